//! Token embedding: rows of a table, by token id.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Fill, Param, Params, Values, Variant, indices, read, write};

/// See the module.
pub static CARD: Card = Card {
    name: "embedding_fwd",
    args: &[indices("ids", &["R"]), read("w", &["V", "C"]), write("y", &["R", "C"])],
    params: &[Param::Dim("R"), Param::Dim("V"), Param::Dim("C")],
    variants: &[
        Variant {
            fits: |p| p.dim("C").is_multiple_of(4),
            ..Variant::portable(
                "vec4",
                include_str!("embedding_fwd_vec4.wgsl"),
                |p, _| elements(p).div_ceil(256),
                |_, _| 0,
            )
        },
        Variant::portable("scalar", include_str!("embedding_fwd.wgsl"), |p, _| elements(p).div_ceil(64), |_, _| 0),
    ],
    reference,
    cpu,
    nmse: 1e-14,
    cases,
    gradients: &["embedding_bwd"],
    flops: |_| 0,
};

fn elements(p: &Params) -> u64 {
    p.dim("R") as u64 * p.dim("C") as u64
}

fn reference(p: &Params, v: &Values) -> Values {
    let (vocabulary, channels) = (p.dim("V"), p.dim("C"));
    let row = |&id: &f64| {
        let id = (id as usize).min(vocabulary - 1);
        &v["w"][id * channels..(id + 1) * channels]
    };
    Values::from([("y", v["ids"].iter().flat_map(row).copied().collect())])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (vocabulary, channels) = (p.dim("V"), p.dim("C"));
    let (ids, w, y) = (args.u32("ids"), args.f32("w"), args.f32_mut("y"));
    y.par_chunks_mut(channels).zip(ids).with_min_len(64).for_each(|(y, &id)| {
        let id = (id as usize).min(vocabulary - 1);
        y.copy_from_slice(&w[id * channels..(id + 1) * channels]);
    });
}

fn cases() -> Vec<Case> {
    // The last one asks for ids beyond the vocabulary.
    [(1, 1, 1, 1), (7, 5, 3, 5), (130, 11, 12, 11), (5, 3, 201, 3), (66, 300, 8, 300), (40, 5, 4, 9)]
        .map(|(r, v, c, ids)| Case::new(Params::dims([("R", r), ("V", v), ("C", c)])).fill("ids", Fill::Index(ids)))
        .to_vec()
}
