//! SwiGLU, gradients to both of its inputs.

use rayon::prelude::*;

use crate::{
    Card, CpuArgs, Param, Params, Values, Variant, read,
    swiglu_fwd::{cases, sigmoid},
    vector::vectorised,
    write,
};

/// Elements of one task of the CPU kernel.
const CHUNK: usize = 1 << 13;

/// See the module.
pub static CARD: Card = Card {
    name: "swiglu_bwd",
    args: &[
        read("gate", &["N"]).half(),
        read("up", &["N"]).half(),
        read("dy", &["N"]).half(),
        write("dgate", &["N"]).half(),
        write("dup", &["N"]).half(),
    ],
    params: &[Param::Dim("N")],
    variants: &[
        Variant {
            fits: |p| p.dim("N").is_multiple_of(4),
            ..Variant::portable(
                "vec4",
                include_str!("swiglu_bwd_vec4.wgsl"),
                |p, _| (p.dim("N") as u64).div_ceil(256),
                |_, _| 0,
            )
        },
        Variant::portable("scalar", include_str!("swiglu_bwd.wgsl"), |p, _| (p.dim("N") as u64).div_ceil(64), |_, _| 0),
    ],
    reference,
    cpu,
    // The drivers' exp errs by 1.1e-6.
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| 11 * p.dim("N") as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    let n = p.dim("N");
    let (mut dgate, mut dup) = (vec![0.0; n], vec![0.0; n]);
    for i in 0..n {
        let (gate, up, dy) = (v["gate"][i], v["up"][i], v["dy"][i]);
        let sigmoid = 1.0 / (1.0 + (-gate).exp());
        dup[i] = dy * gate * sigmoid;
        dgate[i] = dy * up * (sigmoid + gate * sigmoid * (1.0 - sigmoid));
    }
    Values::from([("dgate", dgate), ("dup", dup)])
}

fn cpu(_: &Params, mut args: CpuArgs<'_>) {
    let (gate, up, dy) = (args.f32("gate"), args.f32("up"), args.f32("dy"));
    let (dgate, dup) = (args.f32_mut("dgate"), args.f32_mut("dup"));
    let inputs = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK));
    let outputs = dgate.par_chunks_mut(CHUNK).zip(dup.par_chunks_mut(CHUNK));
    outputs.zip(inputs).for_each(|((dgate, dup), ((gate, up), dy))| {
        vectorised(
            #[inline(always)]
            || {
                let inputs = gate.iter().zip(up).zip(dy);
                for ((dgate, dup), ((gate, up), dy)) in dgate.iter_mut().zip(dup).zip(inputs) {
                    let s = sigmoid(*gate);
                    *dup = dy * gate * s;
                    *dgate = dy * up * s * (1.0 + gate * (1.0 - s));
                }
            },
        );
    });
}
