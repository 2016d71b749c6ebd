//! Attention with grouped queries, forward, in memory that grows with T and not with T^2.

use rayon::prelude::*;

use crate::{
    Card, Case, CpuArgs, Params, Values, Variant,
    attention::{
        Matrix, NMSE, PARAMS, Shape, case, cases, dot, exponentials, one_vector_per_lane, product, query_groups,
        query_tile, query_tiles, row_iterations, subgroup, subgroup_iterations, turned, turned_iterations,
        turned_query_tiles, two_vectors_per_lane, vectors_fit,
    },
    read, write,
};

/// See the module.
pub static CARD: Card = Card {
    name: "attention_fwd",
    args: &[
        read("q", &["B", "T", "H", "D"]).half(),
        read("k", &["B", "T", "KV", "D"]).half(),
        read("v", &["B", "T", "KV", "D"]).half(),
        write("y", &["B", "T", "H", "D"]).half(),
        write("lse", &["B", "H", "T"]),
    ],
    params: PARAMS,
    variants: &[
        turned("transposed_32", TRANSPOSED, &[], vectors_fit::<8>, turned_query_tiles, |p, _| {
            turned_iterations(p.dim("T"))
        }),
        turned("transposed_64", TRANSPOSED, &[("SPLIT", 1)], vectors_fit::<16>, turned_query_tiles, |p, _| {
            turned_iterations(p.dim("T"))
        }),
        subgroup("subgroup_32", SUBGROUP, &[], one_vector_per_lane, query_tiles, |p, _| {
            subgroup_iterations(p.dim("T"))
        }),
        subgroup("subgroup_64", SUBGROUP, &[("C", 2)], two_vectors_per_lane, query_tiles, |p, _| {
            subgroup_iterations(p.dim("T"))
        }),
        query_tile::<0>(TILE),
        query_tile::<1>(TILE),
        query_tile::<2>(TILE),
        Variant::portable("row_per_lane", include_str!("attention_fwd.wgsl"), query_groups, |p, _| {
            row_iterations(p, p.dim("T"))
        }),
    ],
    reference,
    cpu,
    nmse: NMSE,
    cases: || [cases(), single_query_cases()].concat(),
    gradients: &["attention_bwd_q", "attention_bwd_kv"],
    flops: |p| Shape::of(p).flops(2),
};

const TILE: &str = include_str!("attention_fwd_tile.wgsl");
const SUBGROUP: &str = include_str!("attention_fwd_subgroup.wgsl");
const TRANSPOSED: &str = include_str!("attention_fwd_transposed.wgsl");

fn reference(p: &Params, values: &Values) -> Values {
    let shape = Shape::of(p);
    let (q, k, v) = (&values["q"], &values["k"], &values["v"]);
    let mut y = vec![0.0; q.len()];
    let mut lse = vec![0.0; shape.batch * shape.heads * shape.time];
    for [b, t, h] in shape.queries() {
        let row = shape.row(shape.heads, [b, t, h]);
        let key = |s| shape.row(shape.kv_heads, [b, s, h / shape.group()]);
        let score = |s| f64::from(shape.scale) * dot(q, k, shape.channels, row, key(s));
        let scores: Vec<f64> = (0..shape.visible(t)).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        for (s, score) in scores.iter().enumerate() {
            let weight = (score - largest).exp() / sum;
            for d in 0..shape.channels {
                y[row + d] += weight * v[key(s) + d];
            }
        }
        lse[shape.scalar([b, t, h])] = largest + sum.ln();
    }
    Values::from([("y", y), ("lse", lse)])
}

/// With one query and key the gradients of q and k are zero, whatever rounding makes of them: cases of the forward alone.
fn single_query_cases() -> Vec<Case> {
    vec![case([1, 1, 1, 1, 1], true, 1.0), case([2, 1, 2, 1, 4], false, 0.5)]
}

/// Queries of one tile of the CPU kernel.
const QUERIES: usize = 32;

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let shape = Shape::of(p);
    let (q, k, v) = (args.f32("q"), args.f32("k"), args.f32("v"));
    let (y, lse) = (args.f32_mut("y"), args.f32_mut("lse"));
    let stride = shape.heads * shape.channels;
    let tiles = y
        .par_chunks_mut(shape.time * stride)
        .enumerate()
        .flat_map(|(b, y)| y.par_chunks_mut(QUERIES * stride).enumerate().map(move |(tile, y)| (b, tile * QUERIES, y)));
    let logs: Vec<_> = tiles.map(|(b, t, y)| (b, t, tile(&shape, [q, k, v], [b, t], y))).collect();
    for (b, first, logs) in logs {
        for (i, log) in logs.into_iter().enumerate() {
            lse[shape.scalar([b, first + i / shape.heads, i % shape.heads])] = log;
        }
    }
}

/// The rows of y that begin at (b, first); returns their log-sum-exp, (t, h).
fn tile(shape: &Shape, [q, k, v]: [&[f32]; 3], [b, first]: [usize; 2], y: &mut [f32]) -> Vec<f32> {
    let (channels, stride, kv_stride) = (shape.channels, shape.heads * shape.channels, shape.kv_heads * shape.channels);
    let rows = y.len() / stride;
    let keys = shape.visible(first + rows - 1);
    let mut weights = vec![0.0; rows * keys];
    let mut logs = vec![0.0; rows * shape.heads];
    for h in 0..shape.heads {
        let q = Matrix::rows(&q[shape.row(shape.heads, [b, first, h])..], stride);
        let kv_at = shape.row(shape.kv_heads, [b, 0, h / shape.group()]);
        let (k, v) = (Matrix::rows(&k[kv_at..], kv_stride), Matrix::rows(&v[kv_at..], kv_stride));
        product((&mut weights, keys), false, shape.scale, [rows, keys, channels], q, k.transposed());
        let y = &mut y[h * channels..];
        let mut sums = [0.0; QUERIES];
        for (r, weights) in weights.chunks_mut(keys).enumerate() {
            let (seen, unseen) = weights.split_at_mut(shape.visible(first + r));
            let (largest, sum) = exponentials(seen);
            unseen.fill(0.0);
            sums[r] = sum;
            logs[r * shape.heads + h] = largest + sum.ln();
        }
        product((y, stride), false, 1.0, [rows, channels, keys], Matrix::rows(&weights, keys), v);
        for (y, sum) in y.chunks_mut(stride).zip(sums) {
            y[..channels].iter_mut().for_each(|y| *y /= sum);
        }
    }
    logs
}
