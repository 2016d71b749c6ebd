//! y = x w^T, a linear layer forward: dx is `matmul_nn` of dy and w, dw is `matmul_tn` of dy and x.
//! Rows of y may be padded: logits of an odd vocabulary then have rows of whole vec4s.

use crate::{
    Card, Case, Param, Params,
    matmul::{
        Product, SHAPES, direct, few_rows, many_rows, scalar, subgroup_broadcast, subgroup_broadcast_few_rows,
        subgroup_broadcast_many_rows, workgroup_tile,
    },
    read, write,
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
        workgroup_tile::<0>(TILE, aligned),
        workgroup_tile::<1>(TILE, aligned),
        workgroup_tile::<2>(TILE, aligned),
        workgroup_tile::<3>(TILE, aligned),
        direct(include_str!("matmul_nt_direct.wgsl"), aligned),
        scalar(include_str!("matmul_nt.wgsl")),
    ],
    reference: |p, v| product(p).reference(v),
    cpu: |p, args| product(p).cpu(p.accumulates(), args),
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| product(p).flops(),
};

fn product(p: &Params) -> Product {
    let (m, n, k) = (p.dim("M"), p.dim("N"), p.dim("K"));
    Product { rows: m, columns: n, depth: k, x: [k, 1], w: [1, k], y_stride: p.dim("y_stride") }
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
