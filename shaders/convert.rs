//! Copies an f32 tensor to where it is stored in half precision: a weight to its copy that the matrix products read, a
//! gradient of the residual stream to the operand that they take. Beyond f16's range lies infinity.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Fill, Param, Params, Values, Variant, read, write};

/// Elements of one task of the CPU kernel.
const CHUNK: usize = 1 << 14;

/// See the module.
pub static CARD: Card = Card {
    name: "convert",
    args: &[read("x", &["N"]), write("y", &["N"]).half()],
    params: &[Param::Dim("N")],
    variants: &[Variant {
        fits: |p| p.dim("N").is_multiple_of(4),
        ..Variant::portable("vec4", include_str!("convert.wgsl"), |p, _| (p.dim("N") as u64).div_ceil(256), |_, _| 0)
    }],
    reference: |_, v| Values::from([("y", v["x"].clone())]),
    cpu,
    nmse: 1e-14,
    cases,
    gradients: &[],
    flops: |_| 0,
};

fn cpu(_: &Params, mut args: CpuArgs<'_>) {
    let (x, y) = (args.f32("x"), args.f32_mut("y"));
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| y.copy_from_slice(x));
}

fn cases() -> Vec<Case> {
    let case = |n| Case::new(Params::dims([("N", n)]));
    // The last one is beyond 65504, where f16 ends, in most of its elements.
    vec![case(4), case(256), case(1000), case(400).fill("x", Fill::Normal(0.0, 1e5))]
}
