//! SwiGLU as `swiglu_fwd`, of gate and up that one product made: each row has the gate's columns, then up's.

use rayon::prelude::*;

use crate::{
    Card, Case, CpuArgs, Fill, Param, Params, Values, Variant, read, swiglu_fwd::sigmoid, vector::vectorised, write,
};

/// Elements of one task of the CPU kernel at least, where there are so many.
const CHUNK: usize = 1 << 13;

/// See the module.
pub static CARD: Card = Card {
    name: "swiglu_joined_fwd",
    args: &[read("gate_up", &["R", "2", "F"]).half(), write("y", &["R", "F"]).half()],
    params: PARAMS,
    variants: &[
        Variant {
            fits: |p| p.dim("F").is_multiple_of(4),
            ..Variant::portable("vec4", include_str!("swiglu_joined_fwd_vec4.wgsl"), |p, _| groups(p, 256), |_, _| 0)
        },
        Variant::portable("scalar", include_str!("swiglu_joined_fwd.wgsl"), |p, _| groups(p, 64), |_, _| 0),
    ],
    reference,
    cpu,
    // The drivers' exp errs by 1.1e-6.
    nmse: 1e-11,
    cases,
    gradients: &["swiglu_joined_bwd"],
    flops: |p| 5 * (p.dim("R") * p.dim("F")) as u64,
};

/// The params of both directions.
pub(crate) const PARAMS: &[Param] = &[Param::Dim("R"), Param::Dim("F")];

/// Workgroups where one has so many elements of y.
pub(crate) fn groups(p: &Params, elements: usize) -> u64 {
    (p.dim("R") * p.dim("F")).div_ceil(elements) as u64
}

/// Rows of one task of the CPU kernels.
pub(crate) fn rows_of_task(width: usize) -> usize {
    CHUNK.div_ceil(width)
}

fn reference(p: &Params, v: &Values) -> Values {
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let rows = v["gate_up"].chunks(2 * p.dim("F")).map(|row| row.split_at(p.dim("F")));
    Values::from([("y", rows.flat_map(|(gate, up)| gate.iter().zip(up).map(|(g, u)| silu(*g) * u)).collect())])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (gate_up, y) = (args.f32("gate_up"), args.f32_mut("y"));
    let width = p.dim("F");
    let rows = rows_of_task(width);
    y.par_chunks_mut(rows * width).zip(gate_up.par_chunks(rows * 2 * width)).for_each(|(y, gate_up)| {
        vectorised(
            #[inline(always)]
            || {
                for (y, row) in y.chunks_mut(width).zip(gate_up.chunks(2 * width)) {
                    let (gate, up) = row.split_at(width);
                    y.iter_mut().zip(gate).zip(up).for_each(|((y, gate), up)| *y = gate * sigmoid(*gate) * up);
                }
            },
        );
    });
}

/// Shared with the backward card: the last cases go far beyond the range of exp.
pub(crate) fn cases() -> Vec<Case> {
    let case = |[rows, width]: [usize; 2], std| {
        Case::new(Params::dims([("R", rows), ("F", width)])).fill("gate_up", Fill::Normal(0.0, std))
    };
    vec![
        case([1, 1], 1.0),
        case([7, 9], 1.0),
        case([130, 3], 1.0),
        case([5, 352], 3.0),
        case([33, 20], 1.0),
        case([3, 332], 300.0),
        case([2, 77], 300.0),
    ]
}
