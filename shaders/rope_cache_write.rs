//! What a sequence's new positions bring to its cache: keys, turned to their positions, and values; and the queries that
//! will meet them, turned too. Rows are positions of any sequences, which `rows` names.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Fill, Param, Params, Values, Variant, indices, read, read_write, write};

/// Lanes of a workgroup.
const LANES: usize = 64;

/// See the module. A row whose sequence or position lies outside the cache is padding: nothing is stored.
pub static CARD: Card = Card {
    name: "rope_cache_write",
    args: &[
        indices("rows", &["R", "2"]),
        read("q", &["R", "H", "D"]),
        read("k", &["R", "KV", "D"]),
        read("v", &["R", "KV", "D"]),
        read("angles", &["S", "D"]).touching(&["R", "D"]),
        write("q_rotated", &["R", "H", "D"]),
        read_write("k_cache", &["B", "S", "KV", "D"]).touching(&["R", "KV", "D"]),
        read_write("v_cache", &["B", "S", "KV", "D"]).touching(&["R", "KV", "D"]),
    ],
    params: &[Param::Dim("R"), Param::Dim("B"), Param::Dim("S"), Param::Dim("H"), Param::Dim("KV"), Param::Dim("D")],
    variants: &[
        Variant {
            fits: |p| p.dim("D").is_multiple_of(8),
            ..Variant::portable("vec4", include_str!("rope_cache_write_vec4.wgsl"), |p, _| groups(p, 8), |_, _| 0)
        },
        Variant::portable("scalar", include_str!("rope_cache_write.wgsl"), |p, _| groups(p, 2), |_, _| 0),
    ],
    reference,
    cpu,
    nmse: 1e-13,
    cases,
    gradients: &[],
    flops: |p| 3 * (p.dim("R") * (p.dim("H") + p.dim("KV")) * p.dim("D")) as u64,
};

/// Workgroups where a lane has `channels` of a head.
fn groups(p: &Params, channels: usize) -> u64 {
    (p.dim("R") * (p.dim("H") + p.dim("KV")) * (p.dim("D") / channels)).div_ceil(LANES) as u64
}

/// The angles of positions 0..`positions`, (S, D): cosines of a position, then its sines.
pub fn angles(positions: usize, channels: usize, theta: f64) -> Vec<f32> {
    let (cos, sin) = crate::rope_fwd::tables(positions, channels, theta);
    cos.chunks(channels / 2).zip(sin.chunks(channels / 2)).flat_map(|(cos, sin)| [cos, sin].concat()).collect()
}

/// Where row `r`'s position begins in a cache whose positions have `width` elements; none for padding.
pub(crate) fn place(p: &Params, [b, t]: [usize; 2], width: usize) -> Option<usize> {
    (b < p.dim("B") && t < p.dim("S")).then(|| (b * p.dim("S") + t) * width)
}

fn reference(p: &Params, values: &Values) -> Values {
    let (positions, channels, heads, kv_heads) = (p.dim("S"), p.dim("D"), p.dim("H"), p.dim("KV"));
    let half = channels / 2;
    let mut q_rotated = values["q"].clone();
    let (mut k_cache, mut v_cache) = (values["k_cache"].clone(), values["v_cache"].clone());
    for r in 0..p.dim("R") {
        let [b, t] = [0, 1].map(|i| values["rows"][2 * r + i] as usize);
        let angles = &values["angles"][t.min(positions - 1) * channels..][..channels];
        // Of one element of a row's heads.
        let turned = |x: &[f64], i: usize| {
            let (d, pair) = (i % channels, i % channels % half);
            let partner = if d < half { -x[i + half] } else { x[i - half] };
            x[i] * angles[pair] + partner * angles[half + pair]
        };
        let q = &values["q"][r * heads * channels..][..heads * channels];
        (0..q.len()).for_each(|i| q_rotated[r * heads * channels + i] = turned(q, i));
        let width = kv_heads * channels;
        if let Some(at) = place(p, [b, t], width) {
            let k = &values["k"][r * width..][..width];
            (0..width).for_each(|i| k_cache[at + i] = turned(k, i));
            v_cache[at..at + width].copy_from_slice(&values["v"][r * width..][..width]);
        }
    }
    Values::from([("q_rotated", q_rotated), ("k_cache", k_cache), ("v_cache", v_cache)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (positions, channels) = (p.dim("S"), p.dim("D"));
    let (q_width, width) = (p.dim("H") * channels, p.dim("KV") * channels);
    let (rows, angles) = (args.u32("rows"), args.f32("angles"));
    let (q, k, v) = (args.f32("q"), args.f32("k"), args.f32("v"));
    let (k_cache, v_cache) = (args.f32_mut("k_cache"), args.f32_mut("v_cache"));
    let angles = |t: u32| &angles[(t as usize).min(positions - 1) * channels..][..channels];
    let q_rotated = args.f32_mut("q_rotated").par_chunks_mut(q_width).with_min_len(8);
    q_rotated.zip(q.par_chunks(q_width)).zip(rows.par_chunks(2)).for_each(|((y, q), row)| turn(y, q, angles(row[1])));
    for ((row, k), v) in rows.chunks(2).zip(k.chunks(width)).zip(v.chunks(width)) {
        if let Some(at) = place(p, [row[0] as usize, row[1] as usize], width) {
            turn(&mut k_cache[at..at + width], k, angles(row[1]));
            v_cache[at..at + width].copy_from_slice(v);
        }
    }
}

/// The heads of one position, turned by its angles.
fn turn(y: &mut [f32], x: &[f32], angles: &[f32]) {
    let channels = angles.len();
    let half = channels / 2;
    let (cos, sin) = angles.split_at(half);
    for (y, x) in y.chunks_mut(channels).zip(x.chunks(channels)) {
        let ((y_first, y_second), (x_first, x_second)) = (y.split_at_mut(half), x.split_at(half));
        for i in 0..half {
            y_first[i] = x_first[i] * cos[i] - x_second[i] * sin[i];
            y_second[i] = x_second[i] * cos[i] + x_first[i] * sin[i];
        }
    }
}

fn cases() -> Vec<Case> {
    let case = |[r, b, s, h, kv, d]: [usize; 6]| {
        Case::new(Params::dims([("R", r), ("B", b), ("S", s), ("H", h), ("KV", kv), ("D", d)]))
            .fill("rows", Fill::Derived(distinct_rows))
    };
    [[1, 1, 1, 1, 1, 2], [5, 2, 3, 3, 1, 6], [7, 3, 40, 4, 2, 24], [66, 2, 35, 2, 2, 10], [3, 9, 4, 4, 2, 32]]
        .map(case)
        .to_vec()
}

/// Every row another place, in no order (11 has no factor in common with any case's number of places); every fourth is
/// padding, of both kinds.
fn distinct_rows(p: &Params, _: &Values) -> Vec<f64> {
    let (sequences, positions) = (p.dim("B"), p.dim("S"));
    let row = |r: usize| match r % 8 {
        3 => [u32::MAX as usize, r % positions],
        7 => [r % sequences, positions + r],
        _ => {
            let place = (r * 11 + 2) % (sequences * positions);
            [place / positions, place % positions]
        }
    };
    (0..p.dim("R")).flat_map(row).map(|x| x as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::angles;

    #[test]
    fn a_positions_angles_stand_side_by_side() {
        let angles = angles(2, 4, 10_000.0);
        let (one, hundredth) = (1.0_f64, 0.01_f64);
        let expected = [one.cos(), hundredth.cos(), one.sin(), hundredth.sin()].map(|x| x as f32);
        assert_eq!(angles[..4], [1.0, 1.0, 0.0, 0.0]);
        assert_eq!(angles[4..], expected);
    }
}
