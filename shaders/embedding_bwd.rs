//! Token embedding, gradient to the table. The host has sorted the batch's rows by token, so that each token's sum has
//! one owner and one order: no atomics, and work that grows with R C, not with V R.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Fill, Param, Params, Values, Variant, indices, read, write};

/// See the module.
pub static CARD: Card = Card {
    name: "embedding_bwd",
    args: &[read("dy", &["R", "C"]), indices("order", &["R"]), indices("start", &["V"]), write("dw", &["V", "C"])],
    params: &[Param::Dim("R"), Param::Dim("V"), Param::Dim("C"), Param::Dim("accumulate")],
    variants: &[
        Variant {
            fits: |p| p.dim("C").is_multiple_of(4),
            ..Variant::portable(
                "vec4",
                include_str!("embedding_bwd_vec4.wgsl"),
                |p, _| elements(p).div_ceil(256),
                iterations,
            )
        },
        Variant::portable("scalar", include_str!("embedding_bwd.wgsl"), |p, _| elements(p).div_ceil(64), iterations),
    ],
    reference,
    cpu,
    nmse: 1e-12,
    cases,
    gradients: &[],
    flops: |p| (p.dim("R") * p.dim("C")) as u64,
};

fn elements(p: &Params) -> u64 {
    p.dim("V") as u64 * p.dim("C") as u64
}

/// Where all rows hold one token: four rows at a time, then up to three single ones.
fn iterations(p: &Params, _: &crate::Device) -> u64 {
    p.dim("R") as u64 / 4 + 3
}

fn reference(p: &Params, v: &Values) -> Values {
    let (rows, vocabulary, channels) = (p.dim("R"), p.dim("V"), p.dim("C"));
    let mut dw = vec![0.0; vocabulary * channels];
    for token in 0..vocabulary {
        let begin = v["start"][token] as usize;
        let end = if token + 1 < vocabulary { v["start"][token + 1] as usize } else { rows };
        for row in &v["order"][begin..end] {
            for c in 0..channels {
                dw[token * channels + c] += v["dy"][*row as usize * channels + c];
            }
        }
    }
    Values::from([("dw", dw)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (channels, accumulate) = (p.dim("C"), p.accumulates());
    let (dy, order, start, dw) = (args.f32("dy"), args.u32("order"), args.u32("start"), args.f32_mut("dw"));
    dw.par_chunks_mut(channels).enumerate().with_min_len(16).for_each(|(token, dw)| {
        if !accumulate {
            dw.fill(0.0);
        }
        let end = start.get(token + 1).map_or(order.len(), |&end| end as usize);
        for &row in &order[start[token] as usize..end] {
            let dy = &dy[row as usize * channels..][..channels];
            dw.iter_mut().zip(dy).for_each(|(dw, dy)| *dw += dy);
        }
    });
}

fn cases() -> Vec<Case> {
    // Tokens without rows, the last one too; rows that all hold one token.
    [(1, 1, 1, 1), (7, 5, 3, 5), (130, 11, 12, 11), (5, 3, 201, 3), (66, 300, 8, 290), (75, 3, 4, 1), (75, 3, 5, 1)]
        .map(|(r, v, c, ids)| {
            Case::new(Params::dims([("R", r), ("V", v), ("C", c)]))
                .fill("ids", Fill::Index(ids))
                .fill("order", Fill::Derived(order))
                .fill("start", Fill::Derived(start))
        })
        .to_vec()
}

fn order(_: &Params, v: &Values) -> Vec<f64> {
    let mut rows: Vec<usize> = (0..v["ids"].len()).collect();
    rows.sort_by_key(|&row| v["ids"][row] as usize);
    rows.into_iter().map(|row| row as f64).collect()
}

fn start(p: &Params, v: &Values) -> Vec<f64> {
    let before = |token: usize| v["ids"].iter().filter(|&&id| (id as usize) < token).count() as f64;
    (0..p.dim("V")).map(before).collect()
}
