//! Global gradient norm, the decision whether this step is applied, and its clipping factor: all on the device, in the
//! optimizer's state. The factor is that of `torch.nn.utils.clip_grad_norm_`.
//!
//! Gradients come multiplied by the loss scale, and the factor takes that back. The scale moves as `torch.amp.GradScaler`'s:
//! half after a norm that is not finite, twice after `growth_interval` finite ones in a row; with an interval of 0 it stays.
//!
//! The bias corrections 1 - beta^t follow c += (1 - beta) (1 - c), which starts exact at 1 - beta; 1 - pow(beta, t) in
//! f32 would start with what cancellation leaves. t counts the applied steps: a skipped one leaves no trace.

use crate::{Card, Case, CpuArgs, Fill, Param, Params, Values, Variant, read, read_write, reduce::sum_of};

/// Lanes of the workgroup.
const LANES: u64 = 256;

/// What torch adds to the norm before it divides.
const NORM_OFFSET: f64 = 1e-6;

/// Slots of the optimizer's state. `include/state.wgsl` has the same.
pub mod slots {
    /// Number of applied steps; exact up to 2^24.
    pub const APPLIED: usize = 0;
    /// 1 - beta1^applied.
    pub const CORRECTION1: usize = 1;
    /// 1 - beta2^applied.
    pub const CORRECTION2: usize = 2;
    /// What the gradients of this step are multiplied by.
    pub const SCALE: usize = 3;
    /// Global norm of the gradients, before clipping.
    pub const NORM: usize = 4;
    /// 1 where the norm is finite and the step is applied, otherwise 0.
    pub const FINITE: usize = 5;
    /// Learning rate of this step.
    pub const LR: usize = 6;
    /// What the loss of this step was multiplied by.
    pub const LOSS_SCALE: usize = 7;
}

/// See the module.
pub static CARD: Card = Card {
    name: "gradient_clip",
    args: &[
        read("partial", &["S"]),
        read("step", &["2"]),
        read_write("loss_scale", &["2"]),
        read_write("state", &["8"]),
    ],
    params: &[
        Param::Dim("S"),
        Param::Dim("growth_interval"),
        Param::Scalar("max_norm"),
        Param::Scalar("one_minus_beta1"),
        Param::Scalar("one_minus_beta2"),
    ],
    variants: &[Variant::portable(
        "workgroup",
        include_str!("gradient_clip.wgsl"),
        |_, _| 1,
        |p, _| (p.dim("S") as u64).div_ceil(LANES) + u64::from(LANES.ilog2()),
    )],
    reference,
    cpu,
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| p.dim("S") as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    let mut state = v["state"].clone();
    let (total, [scale, good]) = (v["partial"].iter().sum::<f64>(), [v["loss_scale"][0], v["loss_scale"][1]]);
    let interval = p.dim("growth_interval") as f64;
    // The kernels decide by what f32 holds of the total.
    let finite = (total as f32).is_finite();
    state[slots::LR] = v["step"][0];
    state[slots::LOSS_SCALE] = scale;
    state[slots::NORM] = if finite { total.sqrt() / scale } else { f64::INFINITY };
    state[slots::FINITE] = if finite { 1.0 } else { 0.0 };
    state[slots::SCALE] = 0.0;
    if finite {
        state[slots::APPLIED] += 1.0;
        for (slot, one_minus_beta) in
            [(slots::CORRECTION1, p.scalar("one_minus_beta1")), (slots::CORRECTION2, p.scalar("one_minus_beta2"))]
        {
            // 1 - beta^(t + 1), from 1 - beta^t.
            state[slot] = 1.0 - (1.0 - f64::from(one_minus_beta)) * (1.0 - state[slot]);
        }
        let max_norm = f64::from(p.scalar("max_norm"));
        let ratio = max_norm / (state[slots::NORM] + NORM_OFFSET);
        let clip = if max_norm > 0.0 && ratio < 1.0 { ratio } else { 1.0 };
        state[slots::SCALE] = clip / scale;
    }
    let next = match (interval > 0.0, finite) {
        (false, _) => vec![scale, good],
        (true, false) => vec![scale / 2.0, 0.0],
        (true, true) if good + 1.0 == interval => vec![scale * 2.0, 0.0],
        (true, true) => vec![scale, good + 1.0],
    };
    Values::from([("state", state), ("loss_scale", next)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (partial, step, state) = (args.f32("partial"), args.f32("step"), args.f32_mut("state"));
    let loss_scale = args.f32_mut("loss_scale");
    let scale = loss_scale[0];
    let norm = sum_of(partial, |partial| partial).sqrt() / scale;
    let finite = norm.is_finite();
    state[slots::LR] = step[0];
    state[slots::LOSS_SCALE] = scale;
    state[slots::NORM] = norm;
    state[slots::FINITE] = f32::from(finite);
    state[slots::SCALE] = 0.0;
    if finite {
        let max_norm = p.scalar("max_norm");
        state[slots::APPLIED] += 1.0;
        state[slots::CORRECTION1] += p.scalar("one_minus_beta1") * (1.0 - state[slots::CORRECTION1]);
        state[slots::CORRECTION2] += p.scalar("one_minus_beta2") * (1.0 - state[slots::CORRECTION2]);
        let clip = if max_norm > 0.0 { (max_norm / (norm + NORM_OFFSET as f32)).min(1.0) } else { 1.0 };
        state[slots::SCALE] = clip / scale;
    }
    let interval = p.dim("growth_interval") as f32;
    if interval > 0.0 {
        loss_scale[1] = if finite { loss_scale[1] + 1.0 } else { 0.0 };
        if !finite {
            loss_scale[0] = 0.5 * scale;
        } else if loss_scale[1] == interval {
            loss_scale.copy_from_slice(&[2.0 * scale, 0.0]);
        }
    }
}

fn cases() -> Vec<Case> {
    // Norms of order 1, so that no slot is lost beside another.
    let scaled = |s: usize, max_norm, interval, scale: fn(&Params, &Values) -> Vec<f64>| {
        let params = Params::dims([("S", s), ("growth_interval", interval)])
            .with_scalar("max_norm", max_norm)
            .with_scalar("one_minus_beta1", 0.1)
            .with_scalar("one_minus_beta2", 0.05);
        Case::new(params)
            .fill("partial", Fill::Uniform(0.0, 4.0 / s as f64))
            .fill("state", Fill::Uniform(0.0, 1.0))
            .fill("loss_scale", Fill::Derived(scale))
    };
    let case = |s, max_norm| scaled(s, max_norm, 0, |_, _| vec![1.0, 0.0]);
    vec![
        case(1, 0.5),
        case(256, 0.7),
        case(1000, 0.0),
        case(3, 100.0),
        case(256, 1.0).fill("partial", Fill::Derived(one_infinite)),
        case(600, 0.0).fill("partial", Fill::Normal(3.0e38, 0.0)),
        // The first step, as the host leaves the state before it.
        case(256, 1.0).fill("state", Fill::Normal(0.0, 0.0)),
        // Loss scales: one that stays, one that grows, one that falls.
        scaled(256, 0.7, 4, |_, _| vec![2.0, 2.0]),
        scaled(256, 0.7, 4, |_, _| vec![2.0, 3.0]),
        scaled(256, 0.0, 4, |_, _| vec![0.5, 3.0]).fill("partial", Fill::Derived(one_infinite)),
    ]
}

fn one_infinite(p: &Params, _: &Values) -> Vec<f64> {
    let last = p.dim("S") - 1;
    (0..=last).map(|s| if s == last { f64::INFINITY } else { 0.1 }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::slots;

    /// The lines `const PREFIX_NAME: u32 = Nu;` of a text, as (NAME, N).
    #[allow(clippy::unwrap_used)]
    pub(crate) fn constants<'a>(wgsl: &'a str, prefix: &str) -> Vec<(&'a str, usize)> {
        let lines = wgsl.lines().filter_map(|line| line.strip_prefix("const ")?.strip_prefix(prefix));
        let constant = |line: &'a str| {
            let (name, value) = line.split_once(": u32 = ").unwrap();
            (name, value.trim_end_matches("u;").parse().unwrap())
        };
        lines.map(constant).collect()
    }

    #[test]
    fn slots_are_those_of_the_wgsl() {
        let expected = vec![
            ("APPLIED", slots::APPLIED),
            ("CORRECTION1", slots::CORRECTION1),
            ("CORRECTION2", slots::CORRECTION2),
            ("SCALE", slots::SCALE),
            ("NORM", slots::NORM),
            ("FINITE", slots::FINITE),
            ("LR", slots::LR),
            ("LOSS_SCALE", slots::LOSS_SCALE),
        ];
        assert_eq!(constants(include_str!("include/state.wgsl"), "STATE_"), expected);
    }
}
