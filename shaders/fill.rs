//! Sets every element.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Param, Params, Values, Variant, write};

/// Elements of one task of the CPU kernel.
const CHUNK: usize = 1 << 14;

/// See the module.
pub static CARD: Card = Card {
    name: "fill",
    args: &[write("y", &["N"])],
    params: &[Param::Dim("N"), Param::Scalar("value")],
    variants: &[
        Variant {
            fits: |p| p.dim("N").is_multiple_of(4),
            ..Variant::portable(
                "vec4",
                include_str!("fill_vec4.wgsl"),
                |p, _| (p.dim("N") as u64).div_ceil(256),
                |_, _| 0,
            )
        },
        Variant::portable("scalar", include_str!("fill.wgsl"), |p, _| (p.dim("N") as u64).div_ceil(64), |_, _| 0),
    ],
    reference,
    cpu,
    nmse: 0.0,
    cases,
    gradients: &[],
    flops: |_| 0,
};

fn reference(p: &Params, _: &Values) -> Values {
    Values::from([("y", vec![f64::from(p.scalar("value")); p.dim("N")])])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let value = p.scalar("value");
    args.f32_mut("y").par_chunks_mut(CHUNK).for_each(|y| y.fill(value));
}

fn cases() -> Vec<Case> {
    [1, 67, 256, 1000].map(|n| Case::new(Params::dims([("N", n)]).with_scalar("value", -1.625))).to_vec()
}
