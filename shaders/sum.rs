//! Total of a tensor, scaled: the mean loss of a micro-batch, added to those of its step.

use crate::{Card, Case, CpuArgs, Param, Params, Values, Variant, read, reduce, write};

/// Lanes of the workgroup.
const LANES: u64 = 256;

/// See the module.
pub static CARD: Card = Card {
    name: "sum",
    args: &[read("x", &["N"]), write("y", &["1"])],
    params: &[Param::Dim("N"), Param::Scalar("scale"), Param::Dim("accumulate")],
    variants: &[Variant::portable(
        "workgroup",
        include_str!("sum.wgsl"),
        |_, _| 1,
        |p, _| (p.dim("N") as u64).div_ceil(LANES) + u64::from(LANES.ilog2()),
    )],
    reference,
    cpu,
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| p.dim("N") as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    Values::from([("y", vec![f64::from(p.scalar("scale")) * v["x"].iter().sum::<f64>()])])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (x, y) = (args.f32("x"), args.f32_mut("y"));
    let old = if p.accumulates() { y[0] } else { 0.0 };
    y[0] = old + p.scalar("scale") * reduce::sum(x.len(), |i| x[i]);
}

fn cases() -> Vec<Case> {
    // A mean away from 0, so that the total is not what is left after cancellation.
    let case = |n: usize| Case::new(Params::dims([("N", n)]).with_scalar("scale", 1.0 / n as f32));
    [1, 255, 1000, 4096].map(|n| case(n).fill("x", crate::Fill::Normal(1.0, 1.0))).to_vec()
}
