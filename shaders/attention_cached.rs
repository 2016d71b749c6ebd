//! Attention of single positions to what their sequences' caches hold, with grouped queries: the forward of generation,
//! for prompts and for one new token of every sequence alike. Rows are positions of any sequences, which `rows` names.

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    Card, Case, CpuArgs, Device, Fill, Param, Params, Values, Variant,
    attention::{Matrix, NMSE, dot, exponentials, product},
    indices, read,
    rope_cache_write::place,
    write,
};

/// Lanes of a workgroup, and the keys that it takes at once.
const LANES: u64 = 64;
const BLOCK: u64 = 256;
/// Iterations of the sums and maxima over a workgroup's lanes.
const REDUCTION: u64 = LANES.ilog2() as u64;

/// See the module. A row sees the positions 0..=t of its sequence; one outside the cache is padding, and becomes zeros.
pub static CARD: Card = Card {
    name: "attention_cached",
    args: &[
        indices("rows", &["R", "2"]),
        read("q", &["R", "H", "D"]),
        read("k_cache", &["B", "S", "KV", "D"]),
        read("v_cache", &["B", "S", "KV", "D"]),
        write("y", &["R", "H", "D"]),
    ],
    params: &[
        Param::Dim("R"),
        Param::Dim("B"),
        Param::Dim("S"),
        Param::Dim("H"),
        Param::Dim("KV"),
        Param::Dim("D"),
        Param::Scalar("scale"),
    ],
    variants: &[
        Variant {
            fits: |p| p.dim("D").is_multiple_of(4) && p.dim("D") <= 4 * LANES as usize,
            ..Variant::portable("vec4", include_str!("attention_cached_vec4.wgsl"), heads, |p, _| {
                vec4_iterations(p.dim("S"), p.dim("D"))
            })
        },
        Variant::portable("scalar", include_str!("attention_cached.wgsl"), heads, |p, _| {
            scalar_iterations(p.dim("S"), p.dim("D"))
        }),
    ],
    reference,
    cpu,
    nmse: NMSE,
    cases,
    gradients: &[],
    flops: |p| 4 * (p.dim("R") * p.dim("S") * p.dim("H") * p.dim("D")) as u64,
};

/// Most positions that a workgroup walks within the 65,535 iterations that lavapipe 22.3 grants an invocation.
pub fn most_positions(channels: usize) -> usize {
    let iterations =
        if channels.is_multiple_of(4) && channels <= 4 * LANES as usize { vec4_iterations } else { scalar_iterations };
    (1..).map(|blocks| blocks * BLOCK as usize).take_while(|&s| iterations(s, channels) < 65_535).last().unwrap_or(1)
}

fn heads(p: &Params, _: &Device) -> u64 {
    (p.dim("R") * p.dim("H")) as u64
}

fn vec4_iterations(positions: usize, channels: usize) -> u64 {
    let width = channels as u64 / 4;
    let block = BLOCK / LANES * (width + 2) + BLOCK.div_ceil(LANES / width) + REDUCTION + 1;
    (positions as u64).div_ceil(BLOCK) * block + REDUCTION + LANES / width
}

fn scalar_iterations(positions: usize, channels: usize) -> u64 {
    let channels = channels as u64;
    let shares = channels.div_ceil(LANES);
    let block = BLOCK / LANES * (channels + 2) + shares * (BLOCK + 1) + REDUCTION + 1;
    (positions as u64).div_ceil(BLOCK) * block + REDUCTION + 2 * shares
}

fn reference(p: &Params, values: &Values) -> Values {
    let (heads, kv_heads, channels) = (p.dim("H"), p.dim("KV"), p.dim("D"));
    let (q, k, v) = (&values["q"], &values["k_cache"], &values["v_cache"]);
    let mut y = vec![0.0; q.len()];
    for r in 0..p.dim("R") {
        let [b, t] = [0, 1].map(|i| values["rows"][2 * r + i] as usize);
        if place(p, [b, t], 1).is_none() {
            continue;
        }
        for h in 0..heads {
            let row = (r * heads + h) * channels;
            let key = |s: usize| ((b * p.dim("S") + s) * kv_heads + h / (heads / kv_heads)) * channels;
            let score = |s| f64::from(p.scalar("scale")) * dot(q, k, channels, row, key(s));
            let scores: Vec<f64> = (0..=t).map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            for (s, score) in scores.iter().enumerate() {
                let weight = (score - largest).exp() / sum;
                (0..channels).for_each(|d| y[row + d] += weight * v[key(s) + d]);
            }
        }
    }
    Values::from([("y", y)])
}

/// Most rows that the CPU kernel multiplies at once with the keys of their sequence.
const TILE: usize = 32;

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (heads, channels) = (p.dim("H"), p.dim("D"));
    let (rows, q, y) = (args.u32("rows"), args.f32("q"), args.f32_mut("y"));
    let cache = [args.f32("k_cache"), args.f32("v_cache")];
    let row = |r: usize| [rows[2 * r] as usize, rows[2 * r + 1] as usize];
    y.fill(0.0);
    let tiles: Vec<(usize, Range<usize>)> =
        tiles(p, row).into_iter().flat_map(|tile| (0..heads).map(move |h| (h, tile.clone()))).collect();
    let sums: Vec<Vec<f32>> = tiles
        .par_iter()
        .map(|(h, tile)| attend(p, q, cache, *h, &tile.clone().map(row).collect::<Vec<_>>(), tile.start))
        .collect();
    for ((h, tile), sums) in tiles.into_iter().zip(sums) {
        for (r, sum) in tile.zip(sums.chunks(channels)) {
            y[(r * heads + h) * channels..][..channels].copy_from_slice(sum);
        }
    }
}

/// Neighbouring rows of one sequence, few enough for one task. Padding is in none.
fn tiles(p: &Params, row: impl Fn(usize) -> [usize; 2]) -> Vec<Range<usize>> {
    let mut tiles: Vec<Range<usize>> = Vec::new();
    for r in (0..p.dim("R")).filter(|&r| place(p, row(r), 1).is_some()) {
        match tiles.last_mut() {
            Some(tile) if tile.end == r && tile.len() < TILE && row(tile.start)[0] == row(r)[0] => tile.end += 1,
            _ => tiles.push(r..r + 1),
        }
    }
    tiles
}

/// Head `h` of rows of one sequence, from row `first` on: (rows, D).
fn attend(p: &Params, q: &[f32], cache: [&[f32]; 2], h: usize, rows: &[[usize; 2]], first: usize) -> Vec<f32> {
    let (heads, kv_heads, channels) = (p.dim("H"), p.dim("KV"), p.dim("D"));
    let keys = rows.iter().map(|[_, t]| t + 1).max().unwrap_or(0);
    let stride = kv_heads * channels;
    let at = rows[0][0] * p.dim("S") * stride + h / (heads / kv_heads) * channels;
    let [k, v] = cache.map(|cache| Matrix::rows(&cache[at..], stride));
    let q = Matrix::rows(&q[(first * heads + h) * channels..], heads * channels);
    let mut weights = vec![0.0; rows.len() * keys];
    product((&mut weights, keys), false, p.scalar("scale"), [rows.len(), keys, channels], q, k.transposed());
    let mut totals = vec![0.0; rows.len()];
    for ((weights, [_, t]), total) in weights.chunks_mut(keys).zip(rows).zip(&mut totals) {
        let (seen, unseen) = weights.split_at_mut(t + 1);
        *total = exponentials(seen).1;
        unseen.fill(0.0);
    }
    let mut y = vec![0.0; rows.len() * channels];
    product((&mut y, channels), false, 1.0, [rows.len(), channels, keys], Matrix::rows(&weights, keys), v);
    for (y, total) in y.chunks_mut(channels).zip(totals) {
        y.iter_mut().for_each(|y| *y /= total);
    }
    y
}

fn cases() -> Vec<Case> {
    let case = |[r, b, s, h, kv, d]: [usize; 6], scale| {
        let dims = [("R", r), ("B", b), ("S", s), ("H", h), ("KV", kv), ("D", d)];
        Case::new(Params::dims(dims).with_scalar("scale", scale))
            .fill("rows", Fill::Derived(rows))
            .fill("k_cache", Fill::Derived(cache::<3>))
            .fill("v_cache", Fill::Derived(cache::<5>))
    };
    vec![
        case([1, 1, 1, 1, 1, 1], 1.0),
        case([2, 3, 17, 6, 2, 13], 0.28),
        case([5, 2, 37, 6, 2, 32], 0.18),
        case([6, 3, 300, 4, 2, 64], 0.125),
        case([70, 2, 90, 2, 1, 20], 0.22),
        case([3, 2, 600, 2, 2, 132], 0.09),
        case([3, 1, 270, 2, 1, 70], 0.12),
        case([2, 2, 9, 1, 1, 256], 0.06),
        // Scores up to about 100: the running maximum is what keeps exp in range.
        case([4, 2, 520, 2, 1, 16], 6.0),
    ]
}

/// Positions of every sequence, its last among them, side by side as in a prompt; every fourth row is padding, of both kinds.
fn rows(p: &Params, _: &Values) -> Vec<f64> {
    let (rows, sequences, positions) = (p.dim("R"), p.dim("B"), p.dim("S"));
    let row = |r: usize| match r % 8 {
        3 => [u32::MAX as usize, r % positions],
        7 => [r % sequences, positions + r],
        _ => [r * sequences / rows, positions - 1 - r * 5 % positions],
    };
    (0..rows).flat_map(row).map(|x| x as f64).collect()
}

/// N(0, 1) or near it; NaN at positions that no row sees.
fn cache<const SEED: usize>(p: &Params, values: &Values) -> Vec<f64> {
    let (positions, width) = (p.dim("S"), p.dim("KV") * p.dim("D"));
    let mut seen = vec![0; p.dim("B")];
    for row in values["rows"].chunks(2) {
        if let Some(at) = place(p, [row[0] as usize, row[1] as usize], 1) {
            seen[at / positions] = seen[at / positions].max(at % positions + 1);
        }
    }
    let number = |i: usize| {
        let (place, noise) = (i / width, (i * 7919 * SEED + 13) % 1009);
        if place % positions < seen[place / positions] { 3.4 * (noise as f64 / 1009.0 - 0.5) } else { f64::NAN }
    };
    (0..p.dim("B") * positions * width).map(number).collect()
}
