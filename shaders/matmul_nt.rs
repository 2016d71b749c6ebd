//! y = x w^T, a linear layer forward: dx is `matmul_nn` of dy and w, dw is `matmul_tn` of dy and x.
//! Rows of y may be padded: logits of an odd vocabulary then have rows of whole vec4s.

use rayon::prelude::*;

use crate::{
    Card, Case, CpuArgs, Param, Params,
    matmul::{
        Product, SHAPES, cooperative, direct, few_rows, many_rows, scalar, subgroup_broadcast,
        subgroup_broadcast_few_rows, subgroup_broadcast_many_rows, workgroup_tile,
    },
    read, reduce,
    vector::vectorised,
    write,
};

const BROADCAST: &str = include_str!("matmul_nt_subgroup_broadcast.wgsl");
const TILE: &str = include_str!("matmul_nt_workgroup_tile.wgsl");

/// See the module.
pub static CARD: Card = Card {
    name: "matmul_nt",
    args: &[read("x", &["M", "K"]).half(), read("w", &["N", "K"]).half(), write("y", &["M", "y_stride"]).half_result()],
    params: &[Param::Dim("M"), Param::Dim("N"), Param::Dim("K"), Param::Dim("y_stride"), Param::Dim("accumulate")],
    variants: &[
        subgroup_broadcast_few_rows(BROADCAST, |p| aligned(p) && few_rows(p)),
        subgroup_broadcast_many_rows(BROADCAST, |p| aligned(p) && many_rows(p)),
        subgroup_broadcast(BROADCAST, aligned),
        cooperative::<16>(TILE, aligned),
        cooperative::<8>(TILE, aligned),
        workgroup_tile::<0>(TILE, aligned),
        workgroup_tile::<1>(TILE, aligned),
        workgroup_tile::<2>(TILE, aligned),
        workgroup_tile::<3>(TILE, aligned),
        direct(include_str!("matmul_nt_direct.wgsl"), aligned),
        scalar(include_str!("matmul_nt.wgsl")),
    ],
    reference: |p, v| product(p).reference(v),
    cpu: |p, args| {
        if p.dim("M") <= FEW_ROWS { few_rows_cpu(p, args) } else { product(p).cpu(p.accumulates(), args) }
    },
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| product(p).flops(),
};

fn product(p: &Params) -> Product {
    let (m, n, k) = (p.dim("M"), p.dim("N"), p.dim("K"));
    Product { rows: m, columns: n, depth: k, x: [k, 1], w: [1, k], y_stride: p.dim("y_stride") }
}

/// Most rows of the CPU kernel that reads w once and where it lies: with more, it pays to bring it into tiles first.
const FEW_ROWS: usize = 8;
/// Products of one task of that kernel, and columns that it takes at once.
const TASK: usize = 1 << 16;
const COLUMNS: usize = 4;

/// Dot products of rows of x with rows of w. An output's sum has one order, whatever stands beside it.
fn few_rows_cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (rows, columns, depth, stride) = (p.dim("M"), p.dim("N"), p.dim("K"), p.dim("y_stride"));
    let (x, w, y) = (args.f32("x"), args.f32("w"), args.f32_mut("y"));
    let per_task = (TASK / (rows * depth)).next_multiple_of(COLUMNS).max(COLUMNS);
    let mut sums = vec![0.0; columns * rows]; // (N, M): tasks share out columns
    let task = |(sums, w): (&mut [f32], &[f32])| {
        vectorised(
            #[inline(always)]
            || {
                for (sums, w) in sums.chunks_mut(COLUMNS * rows).zip(w.chunks(COLUMNS * depth)) {
                    // Fewer columns at the end: the first again in their places.
                    let w: [&[f32]; COLUMNS] =
                        std::array::from_fn(|n| w.get(n * depth..(n + 1) * depth).unwrap_or(&w[..depth]));
                    for (m, x) in x.chunks(depth).enumerate() {
                        let dots = reduce::dots(x, w);
                        sums.iter_mut().skip(m).step_by(rows).zip(dots).for_each(|(sum, dot)| *sum = dot);
                    }
                }
            },
        );
    };
    if columns <= per_task {
        task((&mut sums, &w[..columns * depth]));
    } else {
        sums.par_chunks_mut(per_task * rows).zip(w.par_chunks(per_task * depth)).for_each(task);
    }
    for (m, y) in y.chunks_mut(stride).enumerate() {
        let add = p.accumulates();
        for (y, sum) in y.iter_mut().zip(sums.iter().skip(m).step_by(rows)) {
            *y = if add { *y + sum } else { *sum };
        }
        if !add {
            y[columns..].fill(0.0);
        }
    }
}

/// Whether all rows are whole vec4s.
fn aligned(p: &Params) -> bool {
    p.dim("K").is_multiple_of(4) && p.dim("y_stride").is_multiple_of(4)
}

fn cases() -> Vec<Case> {
    let case = |(m, n, k), stride| Case::new(Params::dims([("M", m), ("N", n), ("K", k), ("y_stride", stride)]));
    let exact = SHAPES.iter().map(|&(m, n, k)| case((m, n, k), n));
    // Padded to whole vec4s, to more than that, and to no good end.
    exact.chain([case((6, 65, 8), 68), case((35, 7, 20), 12), case((2, 3, 5), 8)]).collect()
}
