//! Attention's gradient with respect to the queries. The weights are recomputed from the scores and their log-sum-exp.

use rayon::prelude::*;

use crate::{
    Card, CpuArgs, Params, Values, Variant,
    attention::{
        Matrix, NMSE, PARAMS, Shape, cases, dot, one_vector_per_lane, product, query_groups, query_tile, query_tiles,
        row_iterations, subgroup, subgroup_iterations, turned, turned_iterations, turned_query_tiles,
        two_vectors_per_lane, vectors_fit,
    },
    exp::exp,
    read,
    vector::vectorised,
    write,
};

/// See the module.
pub static CARD: Card = Card {
    name: "attention_bwd_q",
    args: &[
        read("q", &["B", "T", "H", "D"]).half(),
        read("k", &["B", "T", "KV", "D"]).half(),
        read("v", &["B", "T", "KV", "D"]).half(),
        read("dy", &["B", "T", "H", "D"]).half(),
        read("lse", &["B", "H", "T"]),
        read("delta", &["B", "H", "T"]),
        write("dq", &["B", "T", "H", "D"]).half(),
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
        Variant::portable("row_per_lane", include_str!("attention_bwd_q.wgsl"), query_groups, |p, _| {
            row_iterations(p, p.dim("T"))
        }),
    ],
    reference,
    cpu,
    nmse: NMSE,
    cases,
    gradients: &[],
    flops: |p| Shape::of(p).flops(3),
};

const TILE: &str = include_str!("attention_bwd_q_tile.wgsl");
const SUBGROUP: &str = include_str!("attention_bwd_q_subgroup.wgsl");
const TRANSPOSED: &str = include_str!("attention_bwd_q_transposed.wgsl");

fn reference(p: &Params, values: &Values) -> Values {
    let shape = Shape::of(p);
    let [q, k, v, dy] = ["q", "k", "v", "dy"].map(|name| &values[name]);
    let mut dq = vec![0.0; q.len()];
    for [b, t, h] in shape.queries() {
        let row = shape.row(shape.heads, [b, t, h]);
        let at = shape.scalar([b, t, h]);
        for s in 0..shape.visible(t) {
            let key = shape.row(shape.kv_heads, [b, s, h / shape.group()]);
            let score = f64::from(shape.scale) * dot(q, k, shape.channels, row, key);
            let weight = (score - values["lse"][at]).exp();
            let dscore = weight * (dot(dy, v, shape.channels, row, key) - values["delta"][at]);
            for d in 0..shape.channels {
                dq[row + d] += f64::from(shape.scale) * dscore * k[key + d];
            }
        }
    }
    Values::from([("dq", dq)])
}

/// Queries of one tile of the CPU kernel.
const QUERIES: usize = 32;

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let shape = Shape::of(p);
    let inputs = ["q", "k", "v", "dy", "lse", "delta"].map(|name| args.f32(name));
    let dq = args.f32_mut("dq");
    let stride = shape.heads * shape.channels;
    dq.par_chunks_mut(shape.time * stride).enumerate().for_each(|(b, dq)| {
        dq.par_chunks_mut(QUERIES * stride).enumerate().for_each(|(i, dq)| tile(&shape, inputs, [b, i * QUERIES], dq));
    });
}

/// The rows of dq that begin at (b, first).
fn tile(shape: &Shape, [q, k, v, dy, lse, delta]: [&[f32]; 6], [b, first]: [usize; 2], dq: &mut [f32]) {
    let (channels, stride, kv_stride) = (shape.channels, shape.heads * shape.channels, shape.kv_heads * shape.channels);
    let rows = dq.len() / stride;
    let keys = shape.visible(first + rows - 1);
    let mut scores = vec![0.0; rows * keys];
    let mut dscores = vec![0.0; rows * keys];
    for h in 0..shape.heads {
        let at = shape.row(shape.heads, [b, first, h]);
        let (q, dy) = (Matrix::rows(&q[at..], stride), Matrix::rows(&dy[at..], stride));
        let kv_at = shape.row(shape.kv_heads, [b, 0, h / shape.group()]);
        let (k, v) = (Matrix::rows(&k[kv_at..], kv_stride), Matrix::rows(&v[kv_at..], kv_stride));
        product((&mut scores, keys), false, shape.scale, [rows, keys, channels], q, k.transposed());
        product((&mut dscores, keys), false, 1.0, [rows, keys, channels], dy, v.transposed());
        for (r, (scores, dscores)) in scores.chunks(keys).zip(dscores.chunks_mut(keys)).enumerate() {
            let at = shape.scalar([b, first + r, h]);
            let (lse, delta) = (lse[at], delta[at]);
            let (seen, unseen) = dscores.split_at_mut(shape.visible(first + r));
            vectorised(
                #[inline(always)]
                || {
                    for (dscore, score) in seen.iter_mut().zip(scores) {
                        *dscore = exp(score - lse) * (*dscore - delta);
                    }
                },
            );
            unseen.fill(0.0);
        }
        let dscores = Matrix::rows(&dscores, keys);
        product((&mut dq[h * channels..], stride), false, shape.scale, [rows, channels, keys], dscores, k);
    }
}
