//! Copies a tensor, or adds it to another: where two gradients meet that no kernel added on its way.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Param, Params, Values, Variant, read, write};

/// Elements of a workgroup, as in the WGSL; also the CPU's grain.
const ELEMENTS: usize = 1024;

/// See the module.
pub static CARD: Card = Card {
    name: "accumulate",
    args: &[read("x", &["N"]), write("y", &["N"])],
    params: &[Param::Dim("N"), Param::Dim("accumulate")],
    variants: &[Variant::portable(
        "strided",
        include_str!("accumulate.wgsl"),
        |p, _| p.dim("N").div_ceil(ELEMENTS) as u64,
        |_, _| 16,
    )],
    reference: |_, v| Values::from([("y", v["x"].clone())]),
    cpu,
    nmse: 1e-14,
    cases,
    gradients: &[],
    flops: |p| p.dim("N") as u64,
};

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (x, y) = (args.f32("x"), args.f32_mut("y"));
    let add = p.accumulates();
    y.par_chunks_mut(16 * ELEMENTS).zip(x.par_chunks(16 * ELEMENTS)).for_each(|(y, x)| {
        if add {
            y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
        } else {
            y.copy_from_slice(x);
        }
    });
}

fn cases() -> Vec<Case> {
    [1, 1023, 5000].map(|n| Case::new(Params::dims([("N", n)]))).to_vec()
}
