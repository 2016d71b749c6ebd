//! The first step of attention's backward: one number per query row, which both other steps subtract.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Device, Param, Params, Values, Variant, read, reduce::dot, write};

/// Rows of a workgroup; the WGSL's workgroup size.
const ROWS: u64 = 64;

/// See the module.
pub static CARD: Card = Card {
    name: "attention_bwd_delta",
    args: &[
        read("y", &["B", "T", "H", "D"]).half(),
        read("dy", &["B", "T", "H", "D"]).half(),
        write("delta", &["B", "H", "T"]),
    ],
    params: &[Param::Dim("B"), Param::Dim("T"), Param::Dim("H"), Param::Dim("D")],
    variants: &[
        Variant {
            fits: |p| p.dim("D").is_multiple_of(4),
            ..Variant::portable("row_per_lane_vec4", include_str!("attention_bwd_delta_vec4.wgsl"), groups, |p, _| {
                p.dim("D") as u64 / 4
            })
        },
        Variant::portable("row_per_lane", include_str!("attention_bwd_delta.wgsl"), groups, |p, _| p.dim("D") as u64),
    ],
    reference,
    cpu,
    nmse: 1e-12,
    cases,
    gradients: &[],
    flops: |p| 2 * (p.dim("B") * p.dim("T") * p.dim("H") * p.dim("D")) as u64,
};

fn groups(p: &Params, _: &Device) -> u64 {
    ((p.dim("B") * p.dim("T") * p.dim("H")) as u64).div_ceil(ROWS)
}

fn reference(p: &Params, values: &Values) -> Values {
    let (batch, time, heads, channels) = (p.dim("B"), p.dim("T"), p.dim("H"), p.dim("D"));
    let mut delta = vec![0.0; batch * heads * time];
    for b in 0..batch {
        for h in 0..heads {
            for t in 0..time {
                let row = ((b * time + t) * heads + h) * channels;
                delta[(b * heads + h) * time + t] =
                    (row..row + channels).map(|i| values["y"][i] * values["dy"][i]).sum();
            }
        }
    }
    Values::from([("delta", delta)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (time, heads, channels) = (p.dim("T"), p.dim("H"), p.dim("D"));
    let (y, dy, delta) = (args.f32("y"), args.f32("dy"), args.f32_mut("delta"));
    delta.par_chunks_mut(time).enumerate().for_each(|(head, delta)| {
        let (b, h) = (head / heads, head % heads);
        for (t, delta) in delta.iter_mut().enumerate() {
            let row = ((b * time + t) * heads + h) * channels;
            *delta = dot(&y[row..row + channels], &dy[row..row + channels]);
        }
    });
}

fn cases() -> Vec<Case> {
    [(1, 1, 1, 1), (2, 3, 5, 13), (1, 70, 1, 4), (2, 19, 4, 32), (1, 5, 2, 100)]
        .map(|(b, t, h, d)| Case::new(Params::dims([("B", b), ("T", t), ("H", h), ("D", d)])))
        .to_vec()
}
