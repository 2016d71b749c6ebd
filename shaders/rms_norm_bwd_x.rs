//! RMSNorm, gradient to its input.

use rayon::prelude::*;

use crate::{Card, Case, Class, CpuArgs, Param, Params, Values, Variant, read, reduce::sum, write};

/// Lanes of a workgroup in every variant.
const LANES: u64 = 64;

/// See the module.
pub static CARD: Card = Card {
    name: "rms_norm_bwd_x",
    args: &[
        read("dy", &["R", "C"]).half(),
        read("x", &["R", "C"]),
        read("w", &["C"]),
        read("rstd", &["R"]),
        write("dx", &["R", "C"]),
    ],
    params: &[Param::Dim("R"), Param::Dim("C"), Param::Dim("accumulate")],
    variants: &[
        Variant {
            preferred_on: &[Class::Software],
            fits: |p| p.dim("C").is_multiple_of(4),
            ..Variant::portable(
                "row_per_lane",
                include_str!("rms_norm_bwd_x_row_per_lane.wgsl"),
                |p, _| (p.dim("R") as u64).div_ceil(LANES),
                |p, _| 2 * p.dim("C") as u64 / 4,
            )
        },
        Variant {
            preferred_on: &[Class::Integrated, Class::Discrete],
            fits: |p| p.dim("C").is_multiple_of(4),
            ..Variant::portable(
                "workgroup_per_row_vec4",
                include_str!("rms_norm_bwd_x_vec4.wgsl"),
                |p, _| p.dim("R") as u64,
                |p, _| 2 * (p.dim("C") as u64).div_ceil(4 * LANES) + u64::from(LANES.ilog2()),
            )
        },
        Variant::portable(
            "workgroup_per_row",
            include_str!("rms_norm_bwd_x.wgsl"),
            |p, _| p.dim("R") as u64,
            |p, _| 2 * (p.dim("C") as u64).div_ceil(LANES) + u64::from(LANES.ilog2()),
        ),
    ],
    reference,
    cpu,
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| 10 * (p.dim("R") * p.dim("C")) as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    let (rows, channels) = (p.dim("R"), p.dim("C"));
    let (dy, x, w, rstd) = (&v["dy"], &v["x"], &v["w"], &v["rstd"]);
    let mut dx = vec![0.0; rows * channels];
    for (r, rstd) in rstd.iter().enumerate() {
        let row = r * channels..(r + 1) * channels;
        let (dy, x, dx) = (&dy[row.clone()], &x[row.clone()], &mut dx[row]);
        let rms = 1.0 / rstd;
        // By the quotient rule: d(x_c / rms)/dx_k = [c = k] / rms - x_c x_k / (C rms^3).
        let projection: f64 = (0..channels).map(|c| dy[c] * w[c] * x[c]).sum();
        for c in 0..channels {
            dx[c] = dy[c] * w[c] / rms - x[c] * projection / (channels as f64 * rms.powi(3));
        }
    }
    Values::from([("dx", dx)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (channels, accumulate) = (p.dim("C"), p.accumulates());
    let (dy, x, w, rstd, dx) = (args.f32("dy"), args.f32("x"), args.f32("w"), args.f32("rstd"), args.f32_mut("dx"));
    let rows = dy.par_chunks(channels).zip(x.par_chunks(channels)).zip(rstd);
    dx.par_chunks_mut(channels).zip(rows).for_each(|(dx, ((dy, x), rstd))| {
        let w = &w[..channels];
        let slope = rstd * rstd * sum(channels, |c| dy[c] * w[c] * x[c]) / channels as f32;
        if !accumulate {
            dx.fill(0.0);
        }
        for c in 0..channels {
            dx[c] += rstd * (dy[c] * w[c] - x[c] * slope);
        }
    });
}

fn cases() -> Vec<Case> {
    // The gradient of a row of one element is eps / rms^3, what two equal terms leave: only a large eps is not lost.
    [(1, 1, 0.5), (3, 7, 1e-5), (65, 48, 1e-5), (130, 128, 1e-5), (5, 201, 1e-5)]
        .map(|(rows, channels, eps)| Case::new(Params::dims([("R", rows), ("C", channels)]).with_scalar("eps", eps)))
        .to_vec()
}
