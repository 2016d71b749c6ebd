//! Multiplies in place.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Param, Params, Values, Variant, read_write};

/// Elements of one task of the CPU kernel.
const CHUNK: usize = 1 << 14;

/// See the module.
pub static CARD: Card = Card {
    name: "scale",
    args: &[read_write("x", &["N"])],
    params: &[Param::Dim("N"), Param::Scalar("alpha")],
    variants: &[
        Variant {
            fits: |p| p.dim("N").is_multiple_of(4),
            ..Variant::portable(
                "vec4",
                include_str!("scale_vec4.wgsl"),
                |p, _| (p.dim("N") as u64).div_ceil(256),
                |_, _| 0,
            )
        },
        Variant::portable("scalar", include_str!("scale.wgsl"), |p, _| (p.dim("N") as u64).div_ceil(64), |_, _| 0),
    ],
    reference,
    cpu,
    nmse: 1e-14,
    cases,
    gradients: &[],
    flops: |p| p.dim("N") as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    let alpha = f64::from(p.scalar("alpha"));
    Values::from([("x", v["x"].iter().map(|x| alpha * x).collect())])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let alpha = p.scalar("alpha");
    args.f32_mut("x").par_chunks_mut(CHUNK).for_each(|x| x.iter_mut().for_each(|x| *x *= alpha));
}

fn cases() -> Vec<Case> {
    [1, 67, 256, 1000].map(|n| Case::new(Params::dims([("N", n)]).with_scalar("alpha", 0.3))).to_vec()
}
