//! Gradients of queries, keys and values to the rows of the product that made them: the rotations undone.

use rayon::prelude::*;

use crate::{
    Card, CpuArgs, Params, Values, Variant, read,
    rope_fwd::{groups, turn, vec4_fits, vec4_groups},
    rope_joined_fwd::{PARAMS, ROWS, cases, flops, heads, widths},
    vector::vectorised,
    write,
};

/// See the module.
pub static CARD: Card = Card {
    name: "rope_joined_bwd",
    args: &[
        read("dq", &["B", "T", "H", "D"]).half(),
        read("dk", &["B", "T", "KV", "D"]).half(),
        read("dv", &["B", "T", "KV", "D"]).half(),
        read("cos", &["T", "D/2"]),
        read("sin", &["T", "D/2"]),
        write("dqkv", &["B", "T", "H+KV+KV", "D"]).half(),
    ],
    params: PARAMS,
    variants: &[
        Variant {
            fits: vec4_fits,
            ..Variant::portable("vec4", include_str!("rope_joined_bwd_vec4.wgsl"), vec4_groups, heads)
        },
        Variant::portable("scalar", include_str!("rope_joined_bwd.wgsl"), groups, heads),
    ],
    reference,
    cpu,
    nmse: 1e-13,
    cases,
    gradients: &[],
    flops,
};

fn reference(p: &Params, values: &Values) -> Values {
    let (time, channels) = (p.dim("T"), p.dim("D"));
    let half = channels / 2;
    let [q_width, width] = widths(p);
    let (cos, sin) = (&values["cos"], &values["sin"]);
    let undone = |dy: &[f64], bt: usize, i: usize| {
        let angle = bt % time * half + i % channels % half;
        let partner = if i % channels < half { dy[i + half] } else { -dy[i - half] };
        dy[i] * cos[angle] + partner * sin[angle]
    };
    let mut dqkv = Vec::new();
    for bt in 0..p.dim("B") * time {
        for (name, width) in [("dq", q_width), ("dk", width)] {
            let dy = &values[name][bt * width..][..width];
            dqkv.extend((0..width).map(|i| undone(dy, bt, i)));
        }
        dqkv.extend(&values["dv"][bt * width..][..width]);
    }
    Values::from([("dqkv", dqkv)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (dq, dk, dv) = (args.f32("dq"), args.f32("dk"), args.f32("dv"));
    let (cos, sin, dqkv) = (args.f32("cos"), args.f32("sin"), args.f32_mut("dqkv"));
    let (time, half, [q_width, width]) = (p.dim("T"), p.dim("D") / 2, widths(p));
    let inputs = dq.par_chunks(q_width).zip(dk.par_chunks(width).zip(dv.par_chunks(width)));
    let rows = dqkv.par_chunks_mut(q_width + 2 * width).zip(inputs);
    rows.with_min_len(ROWS).enumerate().for_each(|(bt, (row, (dq, (dk, dv))))| {
        let angles = bt % time * half..(bt % time + 1) * half;
        let angles = [&cos[angles.clone()], &sin[angles]];
        vectorised(
            #[inline(always)]
            || {
                turn(dq, angles, -1.0, &mut row[..q_width]);
                turn(dk, angles, -1.0, &mut row[q_width..q_width + width]);
                row[q_width + width..].copy_from_slice(dv);
            },
        );
    });
}
