//! The residual stream's addition and the RMSNorm behind it, in one pass less over the stream: y and rstd are
//! `rms_norm_fwd`'s of the sum. Its gradient is that kernel's with respect to the sum, and the sum's goes on to both
//! terms unchanged.

use rayon::prelude::*;

use crate::{
    Card, Class, CpuArgs, Param, Params, Values, Variant, read,
    rms_norm_fwd::{self, row_rstd},
    write,
};

/// Lanes of a workgroup in every variant.
const LANES: u64 = 64;

/// See the module.
pub static CARD: Card = Card {
    name: "residual_rms_norm_fwd",
    args: &[
        read("stream", &["R", "C"]),
        read("branch", &["R", "C"]),
        read("w", &["C"]),
        write("sum", &["R", "C"]),
        write("y", &["R", "C"]).half(),
        write("rstd", &["R"]),
    ],
    params: &[Param::Dim("R"), Param::Dim("C"), Param::Scalar("eps")],
    variants: &[
        Variant {
            preferred_on: &[Class::Software],
            fits: |p| p.dim("C").is_multiple_of(4),
            ..Variant::portable(
                "row_per_lane",
                include_str!("residual_rms_norm_fwd_row_per_lane.wgsl"),
                |p, _| (p.dim("R") as u64).div_ceil(LANES),
                |p, _| 2 * p.dim("C") as u64 / 4,
            )
        },
        Variant::portable(
            "workgroup_per_row",
            include_str!("residual_rms_norm_fwd.wgsl"),
            |p, _| p.dim("R") as u64,
            |p, _| 2 * (p.dim("C") as u64).div_ceil(LANES) + u64::from(LANES.ilog2()),
        ),
    ],
    reference,
    cpu,
    nmse: 1e-12,
    cases: || (rms_norm_fwd::CARD.cases)(),
    gradients: &[],
    flops: |p| 6 * (p.dim("R") * p.dim("C")) as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    let sum: Vec<f64> = v["stream"].iter().zip(&v["branch"]).map(|(a, b)| a + b).collect();
    let norm = Values::from([("x", sum.clone()), ("w", v["w"].clone())]);
    let mut values = (rms_norm_fwd::CARD.reference)(p, &norm);
    values.insert("sum", sum);
    values
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (channels, eps) = (p.dim("C"), p.scalar("eps"));
    let (stream, branch, w) = (args.f32("stream"), args.f32("branch"), args.f32("w"));
    let (sum, y, rstd) = (args.f32_mut("sum"), args.f32_mut("y"), args.f32_mut("rstd"));
    let terms = stream.par_chunks(channels).zip(branch.par_chunks(channels));
    let outputs = y.par_chunks_mut(channels).zip(sum.par_chunks_mut(channels)).zip(rstd);
    outputs.zip(terms).for_each(|(((y, sum), rstd), (stream, branch))| {
        for ((sum, a), b) in sum.iter_mut().zip(stream).zip(branch) {
            *sum = a + b;
        }
        *rstd = row_rstd(sum, eps);
        for ((y, x), w) in y.iter_mut().zip(&*sum).zip(w) {
            *y = x * *rstd * w;
        }
    });
}
