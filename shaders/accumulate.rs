//! Copies a tensor, or adds it to another: where two gradients meet that no kernel added on its way.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Param, Params, Values, Variant, read, write};

/// Elements of one task of the CPU kernel.
const CHUNK: usize = 1 << 14;

/// See the module.
pub static CARD: Card = Card {
    name: "accumulate",
    args: &[read("x", &["N"]).half(), write("y", &["N"]).half()],
    params: &[Param::Dim("N"), Param::Dim("accumulate")],
    variants: &[
        Variant {
            fits: |p| p.dim("N").is_multiple_of(4),
            ..Variant::portable(
                "vec4",
                include_str!("accumulate_vec4.wgsl"),
                |p, _| (p.dim("N") as u64).div_ceil(256),
                |_, _| 0,
            )
        },
        Variant::portable("scalar", include_str!("accumulate.wgsl"), |p, _| (p.dim("N") as u64).div_ceil(64), |_, _| 0),
    ],
    reference,
    cpu,
    nmse: 1e-14,
    cases,
    gradients: &[],
    flops: |p| p.dim("N") as u64,
};

fn reference(_: &Params, v: &Values) -> Values {
    Values::from([("y", v["x"].clone())])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (x, y, add) = (args.f32("x"), args.f32_mut("y"), p.accumulates());
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        if add {
            y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
        } else {
            y.copy_from_slice(x);
        }
    });
}

fn cases() -> Vec<Case> {
    [1, 67, 256, 1000].map(|n| Case::new(Params::dims([("N", n)]))).to_vec()
}
