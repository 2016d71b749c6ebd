//! Sum over rows: the second stage of sums that kernels leave in parts.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Param, Params, Values, Variant, read, write};

/// Most rows that one lane sums alone.
const SHALLOW: usize = 1024;

/// Columns of one task of the CPU kernel.
const CHUNK: usize = 1024;

/// See the module.
pub static CARD: Card = Card {
    name: "column_sum",
    args: &[read("x", &["S", "C"]), write("y", &["C"])],
    params: &[Param::Dim("S"), Param::Dim("C"), Param::Dim("accumulate")],
    variants: &[
        Variant {
            fits: |p| p.dim("C").is_multiple_of(4) && p.dim("S") <= SHALLOW,
            ..Variant::portable(
                "vec4_per_lane",
                include_str!("column_sum_vec4.wgsl"),
                |p, _| (p.dim("C") as u64).div_ceil(256),
                |p, _| p.dim("S") as u64,
            )
        },
        Variant::portable(
            "lanes_share_column",
            include_str!("column_sum.wgsl"),
            |p, _| (p.dim("C") as u64).div_ceil(8),
            |p, _| (p.dim("S") as u64).div_ceil(8) + 8,
        ),
    ],
    reference,
    cpu,
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| (p.dim("S") * p.dim("C")) as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    let (rows, columns) = (p.dim("S"), p.dim("C"));
    let column = |c: usize| (0..rows).map(|s| v["x"][s * columns + c]).sum();
    Values::from([("y", (0..columns).map(column).collect())])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (columns, accumulate) = (p.dim("C"), p.accumulates());
    let (x, y) = (args.f32("x"), args.f32_mut("y"));
    y.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, y)| {
        if !accumulate {
            y.fill(0.0);
        }
        for row in x.chunks(columns) {
            y.iter_mut().zip(&row[chunk * CHUNK..]).for_each(|(y, x)| *y += x);
        }
    });
}

fn cases() -> Vec<Case> {
    [(1, 1), (5, 3), (3, 260), (2000, 9), (1100, 4)]
        .map(|(rows, columns)| Case::new(Params::dims([("S", rows), ("C", columns)])))
        .to_vec()
}
