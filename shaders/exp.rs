//! The exponential of the CPU kernels: the standard library's is a call, which keeps a loop scalar.

/// e^x within 1.5 units in the last place for x in -87..=88; below it is 0, above it grows no further.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves no bits for a fraction: n is x / ln 2 rounded, in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4; // 355 / 512: n * LN2_HIGH is exact
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < LOWEST { LOWEST } else { x };
    let clamped = if clamped > 88.0 { 88.0 } else { clamped };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    // e^r for |r| <= ln 2 / 2: 1 + r + r^2 p(r), p by minimax (Cephes, expf).
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_6e-1;
    let p = p * r + 5e-1;
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits() - 127) << 23); // 2^n
    let value = (p * (r * r) + r + 1.0) * power;
    if x < LOWEST { 0.0 } else { value }
}

/// Just above the logarithm of the smallest normal number.
const LOWEST: f32 = -87.3;

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn agrees_with_f64() {
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let (expected, got) = (f64::from(x).exp(), f64::from(exp(x)));
            assert!((got - expected).abs() <= 1.8e-7 * expected, "exp({x}): expected {expected:e}, got {got:e}");
        }
    }

    #[test]
    fn ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-3.0e38), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }
}
