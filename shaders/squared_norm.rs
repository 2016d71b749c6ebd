//! Sum of squares of a tensor in partial sums: the first stage of the global gradient norm.

use rayon::prelude::*;

use crate::{Card, Case, Class, CpuArgs, Device, Param, Params, Values, Variant, read, reduce::dot, write};

/// Lanes of a workgroup: on software a few, which read a block from its beginning to its end (on lavapipe 22.3, 5.4 M elements, 64
/// lanes took twice as long, for their subgroups walk the block one after the other); elsewhere lanes hide the memory's
/// latency.
const LANES: u32 = 16;
const MANY_LANES: u32 = 256;

/// See the module.
pub static CARD: Card = Card {
    name: "squared_norm",
    args: &[read("x", &["N"]), write("partial", &["S"])],
    params: &[Param::Dim("N"), Param::Dim("S")],
    variants: &[
        Variant {
            preferred_on: &[Class::Software],
            fits: |p| p.dim("N").is_multiple_of(4),
            ..Variant::portable("vec4", include_str!("squared_norm_vec4.wgsl"), groups, |p, _| iterations(p, 4 * LANES))
        },
        Variant {
            consts: &[("LANES", MANY_LANES)],
            preferred_on: &[Class::Integrated, Class::Discrete],
            fits: |p| p.dim("N").is_multiple_of(4),
            ..Variant::portable("vec4_many_lanes", include_str!("squared_norm_vec4.wgsl"), groups, |p, _| {
                iterations(p, 4 * MANY_LANES)
            })
        },
        Variant::portable("scalar", include_str!("squared_norm.wgsl"), groups, |p, _| iterations(p, LANES)),
    ],
    reference,
    cpu,
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| 2 * p.dim("N") as u64,
};

fn groups(p: &Params, _: &Device) -> u64 {
    p.dim("S") as u64
}

fn iterations(p: &Params, stride: u32) -> u64 {
    (block(p) as u64).div_ceil(u64::from(stride)) + u64::from(MANY_LANES.ilog2())
}

/// Elements of a partial sum: a multiple of 4, so that all variants split alike.
fn block(p: &Params) -> usize {
    p.dim("N").div_ceil(4 * p.dim("S")) * 4
}

fn reference(p: &Params, v: &Values) -> Values {
    let mut partial = vec![0.0; p.dim("S")];
    for (i, x) in v["x"].iter().enumerate() {
        partial[i / block(p)] += x * x;
    }
    Values::from([("partial", partial)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (block, x, partial) = (block(p), args.f32("x"), args.f32_mut("partial"));
    partial.par_iter_mut().enumerate().for_each(|(s, partial)| {
        let x = &x[(s * block).min(x.len())..((s + 1) * block).min(x.len())];
        *partial = dot(x, x);
    });
}

fn cases() -> Vec<Case> {
    // Fewer elements than partial sums, one partial sum, blocks of several rounds, a short last block.
    [(1, 1), (1, 5), (67, 3), (64, 256), (5000, 1), (5003, 2), (70_000, 17)]
        .map(|(n, s)| Case::new(Params::dims([("N", n), ("S", s)])))
        .to_vec()
}
