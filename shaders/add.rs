//! Adds two tensors: the residual connection. Its gradient is the identity, so no kernel computes it.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Param, Params, Values, Variant, read, write};

/// Elements of one task of the CPU kernel.
const CHUNK: usize = 1 << 14;

/// See the module.
pub static CARD: Card = Card {
    name: "add",
    args: &[read("a", &["N"]), read("b", &["N"]), write("y", &["N"])],
    params: &[Param::Dim("N")],
    variants: &[
        Variant {
            fits: |p| p.dim("N").is_multiple_of(4),
            ..Variant::portable(
                "vec4",
                include_str!("add_vec4.wgsl"),
                |p, _| (p.dim("N") as u64).div_ceil(256),
                |_, _| 0,
            )
        },
        Variant::portable("scalar", include_str!("add.wgsl"), |p, _| (p.dim("N") as u64).div_ceil(64), |_, _| 0),
    ],
    reference,
    cpu,
    nmse: 1e-14,
    cases,
    gradients: &[],
    flops: |p| p.dim("N") as u64,
};

fn reference(_: &Params, v: &Values) -> Values {
    Values::from([("y", v["a"].iter().zip(&v["b"]).map(|(a, b)| a + b).collect())])
}

fn cpu(_: &Params, mut args: CpuArgs<'_>) {
    let (a, b, y) = (args.f32("a"), args.f32("b"), args.f32_mut("y"));
    let terms = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK));
    y.par_chunks_mut(CHUNK).zip(terms).for_each(|(y, (a, b))| {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    });
}

fn cases() -> Vec<Case> {
    [1, 67, 256, 1000].map(|n| Case::new(Params::dims([("N", n)]))).to_vec()
}
