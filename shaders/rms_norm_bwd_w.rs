//! RMSNorm, gradient to its weight, first stage: one partial sum per tile of rows, which `column_sum` adds up.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Device, Param, Params, Values, Variant, read, write};

/// Lanes of a workgroup in every variant.
const LANES: u64 = 64;

/// Rows of a tile.
const ROWS: usize = 64;

/// The number of tiles `S` that suits `rows`.
pub fn tiles(rows: usize) -> usize {
    rows.div_ceil(ROWS)
}

/// See the module.
pub static CARD: Card = Card {
    name: "rms_norm_bwd_w",
    args: &[
        read("dy", &["R", "C"]).half(),
        read("x", &["R", "C"]),
        read("rstd", &["R"]),
        write("dw_partial", &["S", "C"]),
    ],
    params: &[Param::Dim("R"), Param::Dim("C"), Param::Dim("S")],
    variants: &[
        Variant {
            fits: |p| p.dim("C").is_multiple_of(4),
            ..Variant::portable("vec4", include_str!("rms_norm_bwd_w_vec4.wgsl"), |p, _| groups(p, 4), rows)
        },
        Variant::portable("scalar", include_str!("rms_norm_bwd_w.wgsl"), |p, _| groups(p, 1), rows),
    ],
    reference,
    cpu,
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| 3 * (p.dim("R") * p.dim("C")) as u64,
};

/// Workgroups whose lanes own so many columns of a tile each.
fn groups(p: &Params, columns: usize) -> u64 {
    (p.dim("S") as u64 * (p.dim("C") / columns) as u64).div_ceil(LANES)
}

/// Loop iterations: the rows of a tile.
fn rows(p: &Params, _: &Device) -> u64 {
    p.dim("R").div_ceil(p.dim("S")) as u64
}

fn reference(p: &Params, v: &Values) -> Values {
    let (rows, channels, tiles) = (p.dim("R"), p.dim("C"), p.dim("S"));
    let (dy, x, rstd) = (&v["dy"], &v["x"], &v["rstd"]);
    let mut dw = vec![0.0; tiles * channels];
    for (r, rstd) in rstd.iter().enumerate() {
        let tile = r / rows.div_ceil(tiles);
        for c in 0..channels {
            let i = r * channels + c;
            dw[tile * channels + c] += dy[i] * x[i] * rstd;
        }
    }
    Values::from([("dw_partial", dw)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (rows, channels) = (p.dim("R"), p.dim("C"));
    let tile = rows.div_ceil(p.dim("S"));
    let (dy, x, rstd, dw) = (args.f32("dy"), args.f32("x"), args.f32("rstd"), args.f32_mut("dw_partial"));
    dw.par_chunks_mut(channels).enumerate().for_each(|(s, dw)| {
        dw.fill(0.0);
        let rows = (s * tile).min(rows)..((s + 1) * tile).min(rows);
        let elements = rows.start * channels..rows.end * channels;
        let terms = dy[elements.clone()].chunks(channels).zip(x[elements].chunks(channels));
        for ((dy, x), rstd) in terms.zip(&rstd[rows]) {
            for ((dw, dy), x) in dw.iter_mut().zip(dy).zip(x) {
                *dw += dy * rstd * x;
            }
        }
    });
}

fn cases() -> Vec<Case> {
    // Tiles of few and of many rows, and one without rows (5 tiles of 2 rows over 7).
    [(1, 1, 1), (3, 7, 2), (65, 48, 2), (150, 260, 1), (7, 300, 5), (67, 67, 1)]
        .map(|(r, c, s)| Case::new(Params::dims([("R", r), ("C", c), ("S", s)]).with_scalar("eps", 1e-5)))
        .to_vec()
}
