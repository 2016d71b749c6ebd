//! A seeded permutation of 0..n that is computed element by element, without a table.
//!
//! A balanced Feistel network over the smallest even number of bits that holds n - 1 is a bijection for any round
//! function; walking along its cycle until a value below n comes up makes it one of 0..n (Black and Rogaway,
//! "Ciphers with arbitrary finite domains", 2002). The domain is smaller than 4n, so that takes fewer than four
//! passes on average. The round function is the output function of SplitMix64 (Steele, Lea and Flood, "Fast
//! splittable pseudorandom number generators", 2014): good order for data, no cipher.

const ROUNDS: u64 = 6;

/// Where `index` goes in the permutation of 0..n that belongs to `seed` and `epoch`; `index` is below n.
pub(crate) fn permute(seed: u64, epoch: u64, index: u64, n: u64) -> u64 {
    let bits = u64::BITS - (n - 1).leading_zeros();
    let half = bits.div_ceil(2).max(1);
    let mask = (1u64 << half) - 1;
    let key = split_mix(split_mix(seed).wrapping_add(epoch));
    let mut value = index;
    loop {
        let (mut left, mut right) = (value >> half, value & mask);
        for round in 0..ROUNDS {
            let f = split_mix(split_mix(key.wrapping_add(round)) ^ right);
            (left, right) = (right, left ^ (f & mask));
        }
        value = (left << half) | right;
        if value < n {
            return value;
        }
    }
}

/// The first output of SplitMix64 from the given state.
fn split_mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_index_comes_once(seed: u64, epoch in 0..1000u64, n in 1..3000u64) {
            let mut seen = vec![false; n as usize];
            for index in 0..n {
                let value = permute(seed, epoch, index, n);
                prop_assert!(value < n && !std::mem::replace(&mut seen[value as usize], true));
            }
        }

        #[test]
        fn large_sizes_stay_in_range(seed: u64, n in (1u64 << 40)..=u64::MAX, index: u64) {
            prop_assert!(permute(seed, 0, index % n, n) < n);
        }
    }

    #[test]
    fn split_mix_gives_the_published_numbers() {
        // The reference implementation's first outputs from state 1234567.
        assert_eq!(split_mix(1_234_567), 6_457_827_717_110_365_317);
        let second = 1_234_567u64.wrapping_add(0x9e37_79b9_7f4a_7c15);
        assert_eq!(split_mix(second), 3_203_168_211_198_807_973);
    }

    #[test]
    fn an_index_goes_anywhere_over_seeds_and_over_epochs() {
        for n in [5u64, 8, 13] {
            for index in [0, n - 1] {
                let mut counts = vec![[0u64; 2]; n as usize];
                for i in 0..1000 * n {
                    counts[permute(i, 3, index, n) as usize][0] += 1;
                    counts[permute(3, i, index, n) as usize][1] += 1;
                }
                // Binomial with mean 1000: the standard deviation is below sqrt(1000) = 32; five of them.
                let even = |count: &u64| count.abs_diff(1000) < 160;
                assert!(counts.iter().flatten().all(even), "{n} {index} {counts:?}");
            }
        }
    }

    #[test]
    fn neighbours_are_torn_apart() {
        // Of two random places in 0..n, about 2/n are neighbours: of 10000 pairs two on average, 20 with p < 1e-12.
        let n = 10_000;
        let place = |index| permute(42, 0, index, n);
        let neighbours = (1..n).filter(|i| place(*i).abs_diff(place(i - 1)) == 1).count();
        assert!(neighbours < 20, "{neighbours}");
    }
}
