//! AdamW (Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2), as in `torch.optim.AdamW`:
//! the decay is multiplied by the learning rate. Bias corrections, gradient scale and whether the step is applied at
//! all stand in the optimizer's state (`gradient_clip`).

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Fill, Param, Params, Values, Variant, gradient_clip::slots, read, read_write};

/// Elements of one task of the CPU kernel.
const CHUNK: usize = 1 << 13;

/// Elements that one lane updates (in fours, where they are aligned).
const PER_LANE: u64 = 4;

/// See the module.
pub static CARD: Card = Card {
    name: "adamw",
    args: &[
        read_write("w", &["N"]),
        read_write("m", &["N"]),
        read_write("v", &["N"]),
        read("g", &["N"]),
        read("state", &["8"]),
    ],
    params: &[
        Param::Dim("N"),
        Param::Scalar("beta2"),
        Param::Scalar("one_minus_beta1"),
        Param::Scalar("one_minus_beta2"),
        Param::Scalar("eps"),
        Param::Scalar("weight_decay"),
    ],
    variants: &[
        Variant {
            fits: |p| p.dim("N").is_multiple_of(4),
            ..Variant::portable(
                "vec4",
                include_str!("adamw_vec4.wgsl"),
                |p, _| (p.dim("N") as u64).div_ceil(256 * PER_LANE),
                |_, _| PER_LANE,
            )
        },
        Variant::portable(
            "scalar",
            include_str!("adamw.wgsl"),
            |p, _| (p.dim("N") as u64).div_ceil(64 * PER_LANE),
            |_, _| PER_LANE,
        ),
    ],
    reference,
    cpu,
    nmse: 1e-12,
    cases,
    gradients: &[],
    flops: |p| 14 * p.dim("N") as u64,
};

fn reference(p: &Params, values: &Values) -> Values {
    let scalar = |name| f64::from(p.scalar(name));
    let (mut w, mut m, mut v) = (values["w"].clone(), values["m"].clone(), values["v"].clone());
    let state = &values["state"];
    if state[slots::FINITE] != 0.0 {
        let lr = state[slots::LR];
        for i in 0..p.dim("N") {
            let g = values["g"][i] * state[slots::SCALE];
            w[i] -= lr * scalar("weight_decay") * w[i];
            m[i] = (1.0 - scalar("one_minus_beta1")) * m[i] + scalar("one_minus_beta1") * g;
            v[i] = scalar("beta2") * v[i] + scalar("one_minus_beta2") * g.powi(2);
            let (m_hat, v_hat) = (m[i] / state[slots::CORRECTION1], v[i] / state[slots::CORRECTION2]);
            w[i] -= lr * m_hat / (v_hat.sqrt() + scalar("eps"));
        }
    }
    Values::from([("w", w), ("m", m), ("v", v)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let state = args.f32("state");
    if state[slots::FINITE] == 0.0 {
        return;
    }
    let (beta2, eps) = (p.scalar("beta2"), p.scalar("eps"));
    let (one_minus_beta1, one_minus_beta2) = (p.scalar("one_minus_beta1"), p.scalar("one_minus_beta2"));
    let (lr, scale) = (state[slots::LR], state[slots::SCALE]);
    let kept = 1.0 - lr * p.scalar("weight_decay");
    let rate = lr / state[slots::CORRECTION1];
    let root = 1.0 / state[slots::CORRECTION2].sqrt();
    let (w, m, v, g) = (args.f32_mut("w"), args.f32_mut("m"), args.f32_mut("v"), args.f32("g"));
    let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
    w.par_chunks_mut(CHUNK).zip(moments).zip(g.par_chunks(CHUNK)).for_each(|((w, (m, v)), g)| {
        for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * scale;
            *m += one_minus_beta1 * (g - *m);
            *v = beta2 * *v + one_minus_beta2 * g * g;
            *w = kept * *w - rate * *m / (v.sqrt() * root + eps);
        }
    });
}

fn cases() -> Vec<Case> {
    // A learning rate that moves the weights by as much as they are; in some an eps that is not lost beside the root.
    let case = |n, eps, weight_decay| {
        let params = Params::dims([("N", n)])
            .with_scalar("beta2", 0.95)
            .with_scalar("one_minus_beta1", 0.1)
            .with_scalar("one_minus_beta2", 0.05)
            .with_scalar("eps", eps)
            .with_scalar("weight_decay", weight_decay);
        Case::new(params).fill("v", Fill::Uniform(0.0, 1.0)).fill("state", Fill::Derived(applied))
    };
    vec![
        case(1, 1e-8, 0.0),
        case(67, 1e-8, 0.3),
        case(256, 0.3, 0.1),
        case(3000, 1e-8, 0.1),
        case(1001, 0.3, 0.0),
        case(67, 1e-8, 0.1).fill("state", Fill::Derived(skipped)),
        case(256, 1e-8, 0.1).fill("state", Fill::Derived(skipped)),
    ]
}

fn applied(_: &Params, _: &Values) -> Vec<f64> {
    let mut state = vec![0.0; 8];
    state[slots::APPLIED] = 3.0;
    state[slots::CORRECTION1] = 0.271;
    state[slots::CORRECTION2] = 0.142_625;
    state[slots::SCALE] = 0.6;
    state[slots::NORM] = 1.7;
    state[slots::FINITE] = 1.0;
    state[slots::LR] = 0.3;
    state
}

fn skipped(p: &Params, v: &Values) -> Vec<f64> {
    let mut state = applied(p, v);
    state[slots::FINITE] = 0.0;
    state
}
