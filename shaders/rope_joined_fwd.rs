//! From the rows of one product for queries, keys and values to the three tensors that attention reads, queries and keys
//! turned to their positions as by `rope_fwd`.

use rayon::prelude::*;

use crate::{
    Card, Case, CpuArgs, Device, Param, Params, Values, Variant, read,
    rope_fwd::{groups, turn, vec4_fits, vec4_groups},
    vector::vectorised,
    write,
};

/// See the module.
pub static CARD: Card = Card {
    name: "rope_joined_fwd",
    args: &[
        read("qkv", &["B", "T", "H+KV+KV", "D"]).half(),
        read("cos", &["T", "D/2"]),
        read("sin", &["T", "D/2"]),
        write("q", &["B", "T", "H", "D"]).half(),
        write("k", &["B", "T", "KV", "D"]).half(),
        write("v", &["B", "T", "KV", "D"]).half(),
    ],
    params: PARAMS,
    variants: &[
        Variant {
            fits: vec4_fits,
            ..Variant::portable("vec4", include_str!("rope_joined_fwd_vec4.wgsl"), vec4_groups, heads)
        },
        Variant::portable("scalar", include_str!("rope_joined_fwd.wgsl"), groups, heads),
    ],
    reference,
    cpu,
    nmse: 1e-13,
    cases,
    gradients: &["rope_joined_bwd"],
    flops,
};

/// The params of both directions.
pub(crate) const PARAMS: &[Param] =
    &[Param::Dim("B"), Param::Dim("T"), Param::Dim("H"), Param::Dim("KV"), Param::Dim("D")];

/// Loop iterations: the heads of queries and of keys.
pub(crate) fn heads(p: &Params, _: &Device) -> u64 {
    (p.dim("H") + p.dim("KV")) as u64
}

/// Three operations per element of queries and keys.
pub(crate) fn flops(p: &Params) -> u64 {
    3 * (p.dim("B") * p.dim("T") * (p.dim("H") + p.dim("KV")) * p.dim("D")) as u64
}

/// Elements of a row of queries, and of keys.
pub(crate) fn widths(p: &Params) -> [usize; 2] {
    [p.dim("H") * p.dim("D"), p.dim("KV") * p.dim("D")]
}

/// Rows of one task of the CPU kernels at least.
pub(crate) const ROWS: usize = 32;

fn reference(p: &Params, values: &Values) -> Values {
    let (time, channels) = (p.dim("T"), p.dim("D"));
    let half = channels / 2;
    let [q_width, width] = widths(p);
    let (qkv, cos, sin) = (&values["qkv"], &values["cos"], &values["sin"]);
    let [mut q, mut k, mut v] = [const { Vec::new() }; 3];
    for (bt, row) in qkv.chunks(q_width + 2 * width).enumerate() {
        for (i, x) in row.iter().enumerate() {
            let angle = bt % time * half + i % channels % half;
            let partner = || if i % channels < half { -row[i + half] } else { row[i - half] };
            let turned = || x * cos[angle] + partner() * sin[angle];
            match i {
                _ if i < q_width => q.push(turned()),
                _ if i < q_width + width => k.push(turned()),
                _ => v.push(*x),
            }
        }
    }
    Values::from([("q", q), ("k", k), ("v", v)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (qkv, cos, sin) = (args.f32("qkv"), args.f32("cos"), args.f32("sin"));
    let (q, k, v) = (args.f32_mut("q"), args.f32_mut("k"), args.f32_mut("v"));
    let (time, half, [q_width, width]) = (p.dim("T"), p.dim("D") / 2, widths(p));
    let kv = k.par_chunks_mut(width).zip(v.par_chunks_mut(width));
    let rows = q.par_chunks_mut(q_width).zip(kv).zip(qkv.par_chunks(q_width + 2 * width));
    rows.with_min_len(ROWS).enumerate().for_each(|(bt, ((q, (k, v)), row))| {
        let angles = bt % time * half..(bt % time + 1) * half;
        let angles = [&cos[angles.clone()], &sin[angles]];
        vectorised(
            #[inline(always)]
            || {
                turn(&row[..q_width], angles, 1.0, q);
                turn(&row[q_width..q_width + width], angles, 1.0, k);
                v.copy_from_slice(&row[q_width + width..]);
            },
        );
    });
}

/// Shapes that both directions are tried with.
pub(crate) fn cases() -> Vec<Case> {
    let case = |[b, t, h, kv, d]: [usize; 5]| {
        Case::new(Params::dims([("B", b), ("T", t), ("H", h), ("KV", kv), ("D", d)]))
    };
    [[1, 1, 1, 1, 2], [2, 5, 3, 1, 6], [1, 33, 4, 2, 24], [2, 70, 3, 3, 16], [2, 9, 6, 2, 10], [2, 9, 4, 2, 32]]
        .map(case)
        .to_vec()
}
