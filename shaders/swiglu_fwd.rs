//! SwiGLU (Shazeer 2020, "GLU Variants Improve Transformer", eq. 5, without the matmuls): silu(gate) up.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Fill, Param, Params, Values, Variant, exp::exp, read, vector::vectorised, write};

/// Elements of one task of the CPU kernel.
const CHUNK: usize = 1 << 13;

/// See the module.
pub static CARD: Card = Card {
    name: "swiglu_fwd",
    args: &[read("gate", &["N"]).half(), read("up", &["N"]).half(), write("y", &["N"]).half()],
    params: &[Param::Dim("N")],
    variants: &[
        Variant {
            fits: |p| p.dim("N").is_multiple_of(4),
            ..Variant::portable(
                "vec4",
                include_str!("swiglu_fwd_vec4.wgsl"),
                |p, _| (p.dim("N") as u64).div_ceil(256),
                |_, _| 0,
            )
        },
        Variant::portable("scalar", include_str!("swiglu_fwd.wgsl"), |p, _| (p.dim("N") as u64).div_ceil(64), |_, _| 0),
    ],
    reference,
    cpu,
    // The drivers' exp errs by 1.1e-6.
    nmse: 1e-11,
    cases,
    gradients: &["swiglu_bwd"],
    flops: |p| 5 * p.dim("N") as u64,
};

fn reference(_: &Params, v: &Values) -> Values {
    let silu = |x: f64| x / (1.0 + (-x).exp());
    Values::from([("y", v["gate"].iter().zip(&v["up"]).map(|(gate, up)| silu(*gate) * up).collect())])
}

fn cpu(_: &Params, mut args: CpuArgs<'_>) {
    let (gate, up, y) = (args.f32("gate"), args.f32("up"), args.f32_mut("y"));
    let chunks = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK));
    y.par_chunks_mut(CHUNK).zip(chunks).for_each(|(y, (gate, up))| {
        vectorised(
            #[inline(always)]
            || y.iter_mut().zip(gate).zip(up).for_each(|((y, gate), up)| *y = gate * sigmoid(*gate) * up),
        );
    });
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Shared with the backward card: the last case goes far beyond the range of exp.
pub(crate) fn cases() -> Vec<Case> {
    let case = |n, std| Case::new(Params::dims([("N", n)])).fill("gate", Fill::Normal(0.0, std));
    vec![case(1, 1.0), case(67, 1.0), case(256, 3.0), case(1000, 1.0), case(332, 300.0), case(77, 300.0)]
}
