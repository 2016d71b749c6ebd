//! Attention with grouped queries, forward, in memory that grows with T and not with T^2.
//!
//! Query head h reads key head h / (H / KV), as Hugging Face's `repeat_kv`. What the four attention cards share is here:
//! their shape, the scores of the reference, and the CPU kernels' tile product and exponential.

use rayon::prelude::*;

use crate::{Card, Case, Class, CpuArgs, Device, Needs, Param, Params, Values, Variant, read, write};

/// See the module.
pub static CARD: Card = Card {
    name: "attention_fwd",
    args: &[
        read("q", &["B", "T", "H", "D"]),
        read("k", &["B", "T", "KV", "D"]),
        read("v", &["B", "T", "KV", "D"]),
        write("y", &["B", "T", "H", "D"]),
        write("lse", &["B", "H", "T"]),
    ],
    params: PARAMS,
    variants: &[
        subgroup(8, |p| width_fits(p, 32)),
        subgroup(16, |p| width_fits(p, 64)),
        Variant::portable("row_per_lane", include_str!("attention_fwd.wgsl"), row_groups, |p, _| {
            let (keys, channels) = (p.dim("T") as u64, p.dim("D") as u64);
            channels + keys.div_ceil(4) * (1 + 2 * channels) + channels
        }),
    ],
    reference,
    cpu,
    nmse: 1e-11,
    cases,
    gradients: &["attention_bwd_q", "attention_bwd_kv"],
    flops: |p| 4 * Shape::of(p).pairs(),
};

const fn subgroup(vectors: u32, fits: fn(&Params) -> bool) -> Variant {
    let consts: &[(&str, u32)] = match vectors {
        8 => &[("C", 1)],
        16 => &[("C", 2)],
        _ => &[("C", 4)],
    };
    Variant {
        name: match vectors {
            8 => "subgroup_broadcast_32",
            16 => "subgroup_broadcast_64",
            _ => "subgroup_broadcast_128",
        },
        consts,
        needs: Needs::Subgroup { min: 8, max: 8 },
        preferred_on: &[Class::Software],
        fits,
        ..Variant::portable(
            "",
            include_str!("attention_fwd_subgroup.wgsl"),
            |p, device| Shape::of(p).subgroup_tiles(p.dim("T") * p.dim("H") / p.dim("KV"), device),
            |p, _| {
                let (keys, width) = (p.dim("T") as u64, p.dim("D") as u64 / 4);
                width + keys.div_ceil(8) * (1 + 2 * width) + 4 * (1 + width)
            },
        )
    }
}

/// The params of every attention card.
pub(crate) const PARAMS: &[Param] = &[
    Param::Dim("B"),
    Param::Dim("T"),
    Param::Dim("H"),
    Param::Dim("KV"),
    Param::Dim("D"),
    Param::Dim("causal"),
    Param::Scalar("scale"),
];

/// Whether rows of D channels are whole vec4s and fit registers made for `most` channels.
pub(crate) fn width_fits(p: &Params, most: usize) -> bool {
    p.dim("D").is_multiple_of(most / 8) && p.dim("D") <= most
}

/// Workgroups of 64 lanes with a query row each.
pub(crate) fn row_groups(p: &Params, _: &Device) -> u64 {
    ((p.dim("B") * p.dim("H") * p.dim("T")) as u64).div_ceil(64)
}

/// [`PARAMS`] as Rust values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    pub(crate) time: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) channels: usize,
    pub(crate) causal: bool,
    pub(crate) scale: f32,
}

impl Shape {
    pub(crate) fn of(p: &Params) -> Self {
        Self {
            batch: p.dim("B"),
            time: p.dim("T"),
            heads: p.dim("H"),
            kv_heads: p.dim("KV"),
            channels: p.dim("D"),
            causal: p.dim("causal") != 0,
            scale: p.scalar("scale"),
        }
    }

    /// Multiplications of one matrix product over all pairs of a query and a key that it sees.
    pub(crate) fn pairs(&self) -> u64 {
        let per_head = if self.causal { self.time * (self.time + 1) / 2 } else { self.time * self.time };
        (self.batch * self.heads * per_head * self.channels) as u64
    }

    /// Subgroups of 4 rows per lane for `rows` rows of every (b, kv).
    pub(crate) fn subgroup_tiles(&self, rows: usize, device: &Device) -> u64 {
        let _ = device;
        (self.batch * self.kv_heads * rows.div_ceil(16)) as u64
    }

    /// Keys that query `t` sees: those before this one.
    pub(crate) fn visible(&self, t: usize) -> usize {
        if self.causal { t + 1 } else { self.time }
    }

    /// The key head of query head `h`.
    pub(crate) fn kv(&self, h: usize) -> usize {
        h / (self.heads / self.kv_heads)
    }

    /// Where the channels of (b, t, head) begin in a (B, T, heads, D) tensor.
    pub(crate) fn row(&self, heads: usize, b: usize, t: usize, head: usize) -> usize {
        ((b * self.time + t) * heads + head) * self.channels
    }

    /// The reference's scaled scores of one query row, by visible key.
    pub(crate) fn scores(&self, q: &[f64], k: &[f64], b: usize, h: usize, t: usize) -> Vec<f64> {
        let query = &q[self.row(self.heads, b, t, h)..][..self.channels];
        let score = |s| {
            let key = &k[self.row(self.kv_heads, b, s, self.kv(h))..][..self.channels];
            query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() * f64::from(self.scale)
        };
        (0..self.visible(t)).map(score).collect()
    }
}

fn reference(p: &Params, values: &Values) -> Values {
    let shape = Shape::of(p);
    let (q, k, v) = (&values["q"], &values["k"], &values["v"]);
    let mut y = vec![0.0; q.len()];
    let mut lse = vec![0.0; shape.batch * shape.heads * shape.time];
    for b in 0..shape.batch {
        for h in 0..shape.heads {
            for t in 0..shape.time {
                let scores = shape.scores(q, k, b, h, t);
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
                let lse_row = largest + sum.ln();
                lse[(b * shape.heads + h) * shape.time + t] = lse_row;
                let y_at = shape.row(shape.heads, b, t, h);
                for (s, score) in scores.iter().enumerate() {
                    let weight = (score - lse_row).exp();
                    let v_at = shape.row(shape.kv_heads, b, s, shape.kv(h));
                    for d in 0..shape.channels {
                        y[y_at + d] += weight * v[v_at + d];
                    }
                }
            }
        }
    }
    Values::from([("y", y), ("lse", lse)])
}

fn cpu(_p: &Params, _args: CpuArgs<'_>) {}

/// Shapes that every attention kernel is tried with.
pub(crate) fn cases() -> Vec<Case> {
    let case = |b, t, h, kv, d, causal, scale| {
        let dims = [("B", b), ("T", t), ("H", h), ("KV", kv), ("D", d), ("causal", causal)];
        Case::new(Params::dims(dims).with_scalar("scale", scale))
    };
    vec![
        case(1, 1, 1, 1, 1, 1, 1.0),
        case(2, 1, 2, 1, 4, 0, 0.5),
        case(1, 3, 2, 2, 2, 1, 0.7),
        case(2, 37, 6, 2, 13, 1, 0.28),
        case(1, 29, 3, 1, 13, 0, 0.28),
        case(2, 37, 6, 2, 32, 1, 0.18),
        case(1, 70, 4, 4, 20, 0, 0.22),
        case(1, 65, 4, 2, 64, 1, 0.125),
        case(1, 33, 2, 1, 100, 1, 0.1),
        case(1, 9, 1, 1, 132, 1, 0.09),
        // Scores up to about 100: the running maximum is what keeps exp in range.
        case(1, 50, 2, 1, 16, 1, 6.0),
    ]
}
