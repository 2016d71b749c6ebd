//! Rotary position embedding, backward: the rotation undone.

use crate::{
    Card, CpuArgs, Params, Values, Variant, read,
    rope_fwd::{PARAMS, cases, flops, groups, heads, rotate, vec4_fits, vec4_groups},
    write,
};

/// See the module.
pub static CARD: Card = Card {
    name: "rope_bwd",
    args: &[
        read("dy", &["B", "T", "H", "D"]).half(),
        read("cos", &["T", "D/2"]),
        read("sin", &["T", "D/2"]),
        write("dx", &["B", "T", "H", "D"]).half(),
    ],
    params: PARAMS,
    variants: &[
        Variant {
            fits: vec4_fits,
            ..Variant::portable("vec4", include_str!("rope_bwd_vec4.wgsl"), vec4_groups, heads)
        },
        Variant::portable("scalar", include_str!("rope_bwd.wgsl"), groups, heads),
    ],
    reference,
    cpu,
    nmse: 1e-13,
    cases,
    gradients: &[],
    flops,
};

fn reference(p: &Params, values: &Values) -> Values {
    let (time, heads, channels) = (p.dim("T"), p.dim("H"), p.dim("D"));
    let half = channels / 2;
    let (dy, cos, sin) = (&values["dy"], &values["cos"], &values["sin"]);
    let partner = |i: usize| match i % channels {
        d if d < half => dy[i + half],
        _ => -dy[i - half],
    };
    let angle = |i: usize| i / (heads * channels) % time * half + i % channels % half;
    let dx = (0..dy.len()).map(|i| dy[i] * cos[angle(i)] + partner(i) * sin[angle(i)]).collect();
    Values::from([("dx", dx)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (dy, cos, sin, dx) = (args.f32("dy"), args.f32("cos"), args.f32("sin"), args.f32_mut("dx"));
    rotate(p, dy, [cos, sin], -1.0, dx);
}
