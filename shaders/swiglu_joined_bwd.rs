//! SwiGLU of gate and up that one product made, the gradients to both, side by side as they are.

use rayon::prelude::*;

use crate::{
    Card, CpuArgs, Params, Values, Variant, read,
    swiglu_fwd::sigmoid,
    swiglu_joined_fwd::{PARAMS, cases, groups, rows_of_task},
    vector::vectorised,
    write,
};

/// See the module.
pub static CARD: Card = Card {
    name: "swiglu_joined_bwd",
    args: &[
        read("gate_up", &["R", "2", "F"]).half(),
        read("dy", &["R", "F"]).half(),
        write("dgate_up", &["R", "2", "F"]).half(),
    ],
    params: PARAMS,
    variants: &[
        Variant {
            fits: |p| p.dim("F").is_multiple_of(4),
            ..Variant::portable("vec4", include_str!("swiglu_joined_bwd_vec4.wgsl"), |p, _| groups(p, 256), |_, _| 0)
        },
        Variant::portable("scalar", include_str!("swiglu_joined_bwd.wgsl"), |p, _| groups(p, 64), |_, _| 0),
    ],
    reference,
    cpu,
    // The drivers' exp errs by 1.1e-6.
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| 11 * (p.dim("R") * p.dim("F")) as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    let width = p.dim("F");
    let mut dgate_up = vec![0.0; v["gate_up"].len()];
    for (i, dy) in v["dy"].iter().enumerate() {
        let at = i / width * 2 * width + i % width;
        let (gate, up) = (v["gate_up"][at], v["gate_up"][at + width]);
        let sigmoid = 1.0 / (1.0 + (-gate).exp());
        dgate_up[at] = dy * up * (sigmoid + gate * sigmoid * (1.0 - sigmoid));
        dgate_up[at + width] = dy * gate * sigmoid;
    }
    Values::from([("dgate_up", dgate_up)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (gate_up, dy, dgate_up) = (args.f32("gate_up"), args.f32("dy"), args.f32_mut("dgate_up"));
    let width = p.dim("F");
    let rows = rows_of_task(width);
    let inputs = gate_up.par_chunks(rows * 2 * width).zip(dy.par_chunks(rows * width));
    dgate_up.par_chunks_mut(rows * 2 * width).zip(inputs).for_each(|(dgate_up, (gate_up, dy))| {
        vectorised(
            #[inline(always)]
            || {
                let inputs = gate_up.chunks(2 * width).zip(dy.chunks(width));
                for (drow, (row, dy)) in dgate_up.chunks_mut(2 * width).zip(inputs) {
                    let ((dgate, dup), (gate, up)) = (drow.split_at_mut(width), row.split_at(width));
                    let inputs = gate.iter().zip(up).zip(dy);
                    for ((dgate, dup), ((gate, up), dy)) in dgate.iter_mut().zip(dup).zip(inputs) {
                        let s = sigmoid(*gate);
                        *dup = dy * gate * s;
                        *dgate = dy * up * s * (1.0 + gate * (1.0 - s));
                    }
                }
            },
        );
    });
}
