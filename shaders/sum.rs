//! Total of a tensor, scaled, into one element of a vector: the mean loss of a micro-batch among those of a step.

use crate::{Card, Case, CpuArgs, Param, Params, Values, Variant, read, read_write, reduce};

/// Lanes of the workgroup.
const LANES: u64 = 256;

/// See the module.
pub static CARD: Card = Card {
    name: "sum",
    args: &[read("x", &["N"]), read_write("y", &["M"])],
    params: &[Param::Dim("N"), Param::Dim("M"), Param::Dim("slot"), Param::Scalar("scale")],
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
    let mut y = v["y"].clone();
    y[p.dim("slot")] = f64::from(p.scalar("scale")) * v["x"].iter().sum::<f64>();
    Values::from([("y", y)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (x, y) = (args.f32("x"), args.f32_mut("y"));
    y[p.dim("slot")] = p.scalar("scale") * reduce::sum(x.len(), |i| x[i]);
}

fn cases() -> Vec<Case> {
    // A mean away from 0, so that the total is not what is left after cancellation.
    [(1, 1, 0), (255, 5, 4), (1000, 3, 1), (4096, 2, 0)]
        .map(|(n, m, slot)| {
            let params = Params::dims([("N", n), ("M", m), ("slot", slot)]).with_scalar("scale", 1.0 / n as f32);
            Case::new(params).fill("x", crate::Fill::Normal(1.0, 1.0))
        })
        .to_vec()
}
