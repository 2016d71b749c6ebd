//! Attention's gradients with respect to the keys and the values: sums over the queries of all heads that share them, in
//! a fixed order. The weights are recomputed from the scores and their log-sum-exp.

use rayon::prelude::*;

use crate::{
    Card, CpuArgs, Params, Values, Variant,
    attention::{
        Matrix, NMSE, PARAMS, Shape, cases, dot, key_groups, key_tile, key_tiles, one_vector_per_lane, product,
        queries_of_key, row_iterations, subgroup, subgroup_iterations, turned, turned_iterations, turned_key_tiles,
        two_vectors_per_lane, vectors_fit,
    },
    exp::exp,
    read,
    vector::vectorised,
    write,
};

/// See the module.
pub static CARD: Card = Card {
    name: "attention_bwd_kv",
    args: &[
        read("q", &["B", "T", "H", "D"]).half(),
        read("k", &["B", "T", "KV", "D"]).half(),
        read("v", &["B", "T", "KV", "D"]).half(),
        read("dy", &["B", "T", "H", "D"]).half(),
        read("lse", &["B", "H", "T"]),
        read("delta", &["B", "H", "T"]),
        write("dk", &["B", "T", "KV", "D"]).half(),
        write("dv", &["B", "T", "KV", "D"]).half(),
    ],
    params: PARAMS,
    variants: &[
        turned("transposed_32", TRANSPOSED, &[], vectors_fit::<8>, turned_key_tiles, |p, _| {
            turned_iterations(queries_of_key(p))
        }),
        turned("transposed_64", TRANSPOSED, &[("SPLIT", 1)], vectors_fit::<16>, turned_key_tiles, |p, _| {
            turned_iterations(queries_of_key(p))
        }),
        subgroup("subgroup_32", SUBGROUP, &[], one_vector_per_lane, key_tiles, |p, _| {
            subgroup_iterations(queries_of_key(p))
        }),
        subgroup("subgroup_64", SUBGROUP, &[("C", 2)], two_vectors_per_lane, key_tiles, |p, _| {
            subgroup_iterations(queries_of_key(p))
        }),
        key_tile::<0>(TILE),
        key_tile::<1>(TILE),
        key_tile::<2>(TILE),
        Variant::portable("key_per_lane", include_str!("attention_bwd_kv.wgsl"), key_groups, |p, _| {
            row_iterations(p, queries_of_key(p))
        }),
    ],
    reference,
    cpu,
    nmse: NMSE,
    cases,
    gradients: &[],
    flops: |p| Shape::of(p).flops(4),
};

const TILE: &str = include_str!("attention_bwd_kv_tile.wgsl");
const SUBGROUP: &str = include_str!("attention_bwd_kv_subgroup.wgsl");
const TRANSPOSED: &str = include_str!("attention_bwd_kv_transposed.wgsl");

fn reference(p: &Params, values: &Values) -> Values {
    let shape = Shape::of(p);
    let [q, k, v, dy] = ["q", "k", "v", "dy"].map(|name| &values[name]);
    let (mut dk, mut dv) = (vec![0.0; k.len()], vec![0.0; v.len()]);
    for [b, t, h] in shape.queries() {
        let row = shape.row(shape.heads, [b, t, h]);
        let at = shape.scalar([b, t, h]);
        for s in 0..shape.visible(t) {
            let key = shape.row(shape.kv_heads, [b, s, h / shape.group()]);
            let score = f64::from(shape.scale) * dot(q, k, shape.channels, row, key);
            let weight = (score - values["lse"][at]).exp();
            let dscore = weight * (dot(dy, v, shape.channels, row, key) - values["delta"][at]);
            for d in 0..shape.channels {
                dk[key + d] += f64::from(shape.scale) * dscore * q[row + d];
                dv[key + d] += weight * dy[row + d];
            }
        }
    }
    Values::from([("dk", dk), ("dv", dv)])
}

/// Keys of one tile of the CPU kernel.
const KEYS: usize = 32;

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let shape = Shape::of(p);
    let inputs = ["q", "k", "v", "dy", "lse", "delta"].map(|name| args.f32(name));
    let (dk, dv) = (args.f32_mut("dk"), args.f32_mut("dv"));
    let stride = shape.kv_heads * shape.channels;
    let batches = dk.par_chunks_mut(shape.time * stride).zip(dv.par_chunks_mut(shape.time * stride));
    batches.enumerate().for_each(|(b, (dk, dv))| {
        let tiles = dk.par_chunks_mut(KEYS * stride).zip(dv.par_chunks_mut(KEYS * stride));
        tiles.enumerate().for_each(|(i, (dk, dv))| tile(&shape, inputs, [b, i * KEYS], dk, dv));
    });
}

/// The rows of dk and dv that begin at (b, first).
fn tile(shape: &Shape, [q, k, v, dy, lse, delta]: [&[f32]; 6], [b, first]: [usize; 2], dk: &mut [f32], dv: &mut [f32]) {
    let (channels, stride, kv_stride) = (shape.channels, shape.heads * shape.channels, shape.kv_heads * shape.channels);
    let keys = dk.len() / kv_stride;
    let first_query = shape.first_query(first);
    let rows = shape.time - first_query;
    let mut weights = vec![0.0; rows * keys];
    let mut dscores = vec![0.0; rows * keys];
    for h in 0..shape.heads {
        let at = shape.row(shape.heads, [b, first_query, h]);
        let (q, dy) = (Matrix::rows(&q[at..], stride), Matrix::rows(&dy[at..], stride));
        let kv = h / shape.group();
        let kv_at = shape.row(shape.kv_heads, [b, first, kv]);
        let (k, v) = (Matrix::rows(&k[kv_at..], kv_stride), Matrix::rows(&v[kv_at..], kv_stride));
        product((&mut weights, keys), false, shape.scale, [rows, keys, channels], q, k.transposed());
        product((&mut dscores, keys), false, 1.0, [rows, keys, channels], dy, v.transposed());
        for (r, (weights, dscores)) in weights.chunks_mut(keys).zip(dscores.chunks_mut(keys)).enumerate() {
            let at = shape.scalar([b, first_query + r, h]);
            let (lse, delta) = (lse[at], delta[at]);
            let seen = (shape.visible(first_query + r) - first).min(keys);
            vectorised(
                #[inline(always)]
                || {
                    for (weight, dscore) in weights[..seen].iter_mut().zip(&mut *dscores) {
                        *weight = exp(*weight - lse);
                        *dscore = *weight * (*dscore - delta);
                    }
                },
            );
            weights[seen..].fill(0.0);
            dscores[seen..].fill(0.0);
        }
        let (weights, dscores) = (Matrix::rows(&weights, keys).transposed(), Matrix::rows(&dscores, keys).transposed());
        // The first head of a group begins the sum that the others add to.
        let (add, at) = (h % shape.group() != 0, kv * channels);
        product((&mut dv[at..], kv_stride), add, 1.0, [keys, channels, rows], weights, dy);
        product((&mut dk[at..], kv_stride), add, shape.scale, [keys, channels, rows], dscores, q);
    }
}
