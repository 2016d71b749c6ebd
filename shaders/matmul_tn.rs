//! y = x^T w: the dw = dy^T x of a linear layer.
//! Rows of x may be padded, as those of `matmul_nt`'s y.

use crate::{
    Card, Case, Param, Params,
    matmul::{
        Product, SHAPES, cooperative, direct, few_rows, many_rows, scalar, subgroup_broadcast,
        subgroup_broadcast_few_rows, subgroup_broadcast_many_rows, workgroup_tile,
    },
    read, write,
};

const BROADCAST: &str = include_str!("matmul_tn_subgroup_broadcast.wgsl");
const TILE: &str = include_str!("matmul_tn_workgroup_tile.wgsl");

/// See the module.
pub static CARD: Card = Card {
    name: "matmul_tn",
    args: &[read("x", &["K", "x_stride"]).half(), read("w", &["K", "N"]).half(), write("y", &["M", "N"])],
    params: &[Param::Dim("M"), Param::Dim("N"), Param::Dim("K"), Param::Dim("x_stride"), Param::Dim("accumulate")],
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
        direct(include_str!("matmul_tn_direct.wgsl"), aligned),
        scalar(include_str!("matmul_tn.wgsl")),
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
    Product { rows: m, columns: n, depth: k, x: [1, p.dim("x_stride")], w: [n, 1], y_stride: n }
}

/// Whether all rows are whole vec4s.
fn aligned(p: &Params) -> bool {
    p.dim("x_stride").is_multiple_of(4) && p.dim("N").is_multiple_of(4)
}

fn cases() -> Vec<Case> {
    let case = |(m, n, k), stride| Case::new(Params::dims([("M", m), ("N", n), ("K", k), ("x_stride", stride)]));
    let exact = SHAPES.iter().map(|&(m, n, k)| case((m, n, k), m));
    // Padded to whole vec4s, to more than that, and to no good end.
    exact.chain([case((65, 8, 6), 68), case((7, 12, 35), 8), case((2, 3, 5), 6)]).collect()
}
