//! RMSNorm, forward. 1/rms of every row is kept for the backward.

use rayon::prelude::*;

use crate::{Card, Case, Class, CpuArgs, Param, Params, Values, Variant, read, reduce::dot, write};

/// Lanes of a workgroup in every variant.
const LANES: u64 = 64;

/// See the module.
pub static CARD: Card = Card {
    name: "rms_norm_fwd",
    args: &[read("x", &["R", "C"]), read("w", &["C"]), write("y", &["R", "C"]).half(), write("rstd", &["R"])],
    params: &[Param::Dim("R"), Param::Dim("C"), Param::Scalar("eps")],
    variants: &[
        Variant {
            preferred_on: &[Class::Software],
            fits: |p| p.dim("C").is_multiple_of(4),
            ..Variant::portable(
                "row_per_lane",
                include_str!("rms_norm_fwd_row_per_lane.wgsl"),
                |p, _| (p.dim("R") as u64).div_ceil(LANES),
                |p, _| 2 * p.dim("C") as u64 / 4,
            )
        },
        Variant {
            preferred_on: &[Class::Integrated, Class::Discrete],
            fits: |p| p.dim("C").is_multiple_of(4),
            ..Variant::portable(
                "workgroup_per_row_vec4",
                include_str!("rms_norm_fwd_vec4.wgsl"),
                |p, _| p.dim("R") as u64,
                |p, _| 2 * (p.dim("C") as u64).div_ceil(4 * LANES) + u64::from(LANES.ilog2()),
            )
        },
        Variant::portable(
            "workgroup_per_row",
            include_str!("rms_norm_fwd.wgsl"),
            |p, _| p.dim("R") as u64,
            |p, _| 2 * (p.dim("C") as u64).div_ceil(LANES) + u64::from(LANES.ilog2()),
        ),
    ],
    reference,
    cpu,
    nmse: 1e-12,
    cases,
    gradients: &["rms_norm_bwd_w", "rms_norm_bwd_x"],
    flops: |p| 5 * (p.dim("R") * p.dim("C")) as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    let (rows, channels, eps) = (p.dim("R"), p.dim("C"), f64::from(p.scalar("eps")));
    let (x, w) = (&v["x"], &v["w"]);
    let (mut y, mut rstd) = (vec![0.0; rows * channels], vec![0.0; rows]);
    for r in 0..rows {
        let row = &x[r * channels..(r + 1) * channels];
        let rms = (row.iter().map(|x| x * x).sum::<f64>() / channels as f64 + eps).sqrt();
        rstd[r] = 1.0 / rms;
        for c in 0..channels {
            y[r * channels + c] = row[c] / rms * w[c];
        }
    }
    Values::from([("y", y), ("rstd", rstd)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (channels, eps) = (p.dim("C"), p.scalar("eps"));
    let (x, w, y, rstd) = (args.f32("x"), args.f32("w"), args.f32_mut("y"), args.f32_mut("rstd"));
    y.par_chunks_mut(channels).zip(rstd).zip(x.par_chunks(channels)).for_each(|((y, rstd), x)| {
        *rstd = row_rstd(x, eps);
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = x * *rstd * w;
        }
    });
}

/// 1 / rms of a row.
pub(crate) fn row_rstd(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

fn cases() -> Vec<Case> {
    [(1, 1), (3, 7), (65, 48), (130, 128), (5, 201)]
        .map(|(rows, channels)| Case::new(Params::dims([("R", rows), ("C", channels)]).with_scalar("eps", 1e-5)))
        .to_vec()
}
