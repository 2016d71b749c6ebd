//! RMSNorm, gradient to its weight, first stage: one partial sum per tile of rows, which `column_sum` adds up.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Param, Params, Values, Variant, read, rms_norm_fwd::rstd, write};

/// Lanes of a workgroup in every variant.
const LANES: u64 = 64;

/// The number of tiles `S` that suits `rows`: a tile's rows are one per lane.
pub fn tiles(rows: usize) -> usize {
    rows.div_ceil(LANES as usize)
}

/// See the module.
pub static CARD: Card = Card {
    name: "rms_norm_bwd_w",
    args: &[read("dy", &["R", "C"]).half(), read("x", &["R", "C"]), write("dw_partial", &["S", "C"])],
    params: &[Param::Dim("R"), Param::Dim("C"), Param::Dim("S"), Param::Scalar("eps")],
    variants: &[
        Variant {
            fits: |p| p.dim("C").is_multiple_of(4),
            ..Variant::portable(
                "vec4",
                include_str!("rms_norm_bwd_w_vec4.wgsl"),
                |p, _| p.dim("S") as u64,
                |p, _| iterations(p, 4),
            )
        },
        Variant::portable(
            "scalar",
            include_str!("rms_norm_bwd_w.wgsl"),
            |p, _| p.dim("S") as u64,
            |p, _| iterations(p, 1),
        ),
    ],
    reference,
    cpu,
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| 5 * (p.dim("R") * p.dim("C")) as u64,
};

/// Of a lane that reads `width` elements at a time: a row's sum per block of 64 rows, then its columns of all rows.
fn iterations(p: &Params, width: u64) -> u64 {
    let columns = p.dim("C") as u64 / width;
    let rows = p.dim("R").div_ceil(p.dim("S")) as u64;
    let blocks = rows.div_ceil(LANES).max(1);
    blocks * (1 + columns + columns.div_ceil(LANES)) + columns.div_ceil(LANES) * rows
}

fn reference(p: &Params, v: &Values) -> Values {
    let (rows, channels, tiles) = (p.dim("R"), p.dim("C"), p.dim("S"));
    let (dy, x) = (&v["dy"], &v["x"]);
    let mut dw = vec![0.0; tiles * channels];
    for r in 0..rows {
        let tile = r / rows.div_ceil(tiles);
        let row = r * channels..(r + 1) * channels;
        let mean = x[row.clone()].iter().map(|x| x * x).sum::<f64>() / channels as f64;
        let rms = (mean + f64::from(p.scalar("eps"))).sqrt();
        for (c, i) in row.enumerate() {
            dw[tile * channels + c] += dy[i] * x[i] / rms;
        }
    }
    Values::from([("dw_partial", dw)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (channels, eps) = (p.dim("C"), p.scalar("eps"));
    let tile = p.dim("R").div_ceil(p.dim("S")) * channels;
    let (dy, x, dw) = (args.f32("dy"), args.f32("x"), args.f32_mut("dw_partial"));
    dw.par_chunks_mut(channels).enumerate().for_each(|(s, dw)| {
        dw.fill(0.0);
        let elements = (s * tile).min(x.len())..((s + 1) * tile).min(x.len());
        let rows = dy[elements.clone()].chunks(channels).zip(x[elements].chunks(channels));
        for (dy, x) in rows {
            let rstd = rstd(x, eps);
            for ((dw, dy), x) in dw.iter_mut().zip(dy).zip(x) {
                *dw += dy * rstd * x;
            }
        }
    });
}

fn cases() -> Vec<Case> {
    // Tiles of less and more rows than lanes, and one without rows (5 tiles of 2 rows over 7).
    [(1, 1, 1), (3, 7, 2), (65, 48, 2), (150, 260, 1), (7, 300, 5), (67, 67, 1)]
        .map(|(r, c, s)| Case::new(Params::dims([("R", r), ("C", c), ("S", s)]).with_scalar("eps", 1e-5)))
        .to_vec()
}
