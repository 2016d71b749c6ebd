//! Multiplies by a number that lies on the device: the weights of the rows' losses by the loss scale.

use crate::{Card, Case, CpuArgs, Param, Params, Values, Variant, read, write};

/// See the module.
pub static CARD: Card = Card {
    name: "scale_by",
    args: &[read("x", &["N"]), read("factor", &["2"]), write("y", &["N"])],
    params: &[Param::Dim("N")],
    variants: &[Variant::portable(
        "scalar",
        include_str!("scale_by.wgsl"),
        |p, _| (p.dim("N") as u64).div_ceil(64),
        |_, _| 0,
    )],
    reference: |_, v| Values::from([("y", v["x"].iter().map(|x| x * v["factor"][0]).collect())]),
    cpu,
    nmse: 1e-14,
    cases: || [1, 67, 256].map(|n| Case::new(Params::dims([("N", n)]))).to_vec(),
    gradients: &[],
    flops: |p| p.dim("N") as u64,
};

fn cpu(_: &Params, mut args: CpuArgs<'_>) {
    let (x, factor, y) = (args.f32("x"), args.f32("factor"), args.f32_mut("y"));
    y.iter_mut().zip(x).for_each(|(y, x)| *y = x * factor[0]);
}
