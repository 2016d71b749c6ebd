//! The record of a step, and its last kernel: what the host reads back. The step number is there for the host to see
//! that the step it waited for is the one that ended.

use crate::{Card, Case, CpuArgs, Params, Values, Variant, gradient_clip, read, write};

/// Slots of the record; the rest is 0. `step_metrics.wgsl` has the same.
pub mod slots {
    /// Loss before the update.
    pub const LOSS: usize = 0;
    /// Global norm of the gradients, before clipping.
    pub const NORM: usize = 1;
    /// 1 where that norm is finite and the step was applied, otherwise 0.
    pub const FINITE: usize = 2;
    /// Number of applied steps, this one included.
    pub const APPLIED: usize = 3;
    /// Step number; exact up to 2^24.
    pub const STEP: usize = 4;
    /// What the loss was multiplied by.
    pub const LOSS_SCALE: usize = 5;
}

/// See the module.
pub static CARD: Card = Card {
    name: "step_metrics",
    args: &[read("loss", &["1"]), read("step", &["2"]), read("state", &["8"]), write("metrics", &["8"])],
    params: &[],
    variants: &[Variant::portable("one_lane", include_str!("step_metrics.wgsl"), |_, _| 1, |_, _| 0)],
    reference,
    cpu,
    nmse: 1e-14,
    cases: || vec![Case::new(Params::new())],
    gradients: &[],
    flops: |_| 0,
};

fn reference(_: &Params, v: &Values) -> Values {
    let state = &v["state"];
    let mut metrics = vec![0.0; 8];
    metrics[slots::LOSS] = v["loss"][0];
    metrics[slots::NORM] = state[gradient_clip::slots::NORM];
    metrics[slots::FINITE] = state[gradient_clip::slots::FINITE];
    metrics[slots::APPLIED] = state[gradient_clip::slots::APPLIED];
    metrics[slots::LOSS_SCALE] = state[gradient_clip::slots::LOSS_SCALE];
    metrics[slots::STEP] = v["step"][1];
    Values::from([("metrics", metrics)])
}

fn cpu(_: &Params, mut args: CpuArgs<'_>) {
    let (loss, step, state) = (args.f32("loss"), args.f32("step"), args.f32("state"));
    let metrics = args.f32_mut("metrics");
    metrics.fill(0.0);
    metrics[slots::LOSS] = loss[0];
    metrics[slots::NORM] = state[gradient_clip::slots::NORM];
    metrics[slots::FINITE] = state[gradient_clip::slots::FINITE];
    metrics[slots::APPLIED] = state[gradient_clip::slots::APPLIED];
    metrics[slots::LOSS_SCALE] = state[gradient_clip::slots::LOSS_SCALE];
    metrics[slots::STEP] = step[1];
}

#[cfg(test)]
mod tests {
    use super::slots;
    use crate::gradient_clip::tests::constants;

    #[test]
    fn slots_are_those_of_the_wgsl() {
        let expected = vec![
            ("LOSS", slots::LOSS),
            ("NORM", slots::NORM),
            ("FINITE", slots::FINITE),
            ("APPLIED", slots::APPLIED),
            ("STEP", slots::STEP),
            ("LOSS_SCALE", slots::LOSS_SCALE),
        ];
        assert_eq!(constants(include_str!("step_metrics.wgsl"), "METRICS_"), expected);
    }
}
