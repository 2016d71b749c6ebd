//! Rotary position embedding, forward: pairs of channels of every head turn by an angle that grows with the position.

use rayon::prelude::*;

use crate::{Card, Case, CpuArgs, Device, Param, Params, Values, Variant, read, write};

/// Positions of a workgroup; the WGSL's workgroup size.
const LANES: usize = 64;

/// See the module.
pub static CARD: Card = Card {
    name: "rope_fwd",
    args: &[
        read("x", &["B", "T", "H", "D"]).half(),
        read("cos", &["T", "D/2"]),
        read("sin", &["T", "D/2"]),
        write("y", &["B", "T", "H", "D"]).half(),
    ],
    params: PARAMS,
    variants: &[
        Variant {
            fits: vec4_fits,
            ..Variant::portable("vec4", include_str!("rope_fwd_vec4.wgsl"), vec4_groups, heads)
        },
        Variant::portable("scalar", include_str!("rope_fwd.wgsl"), groups, heads),
    ],
    reference,
    cpu,
    nmse: 1e-13,
    cases,
    gradients: &["rope_bwd"],
    flops,
};

/// The params of both directions.
pub(crate) const PARAMS: &[Param] = &[Param::Dim("B"), Param::Dim("T"), Param::Dim("H"), Param::Dim("D")];

/// The angles' cosines and sines, (T, D/2) each: position t turns pair i by t * theta^(-2i/D). Computed in f64, rounded
/// once. `channels` is D and must be even.
pub fn tables(time: usize, channels: usize, theta: f64) -> (Vec<f32>, Vec<f32>) {
    let angle = |t: usize, i: usize| t as f64 * theta.powf(-2.0 * i as f64 / channels as f64);
    let angles = (0..time).flat_map(|t| (0..channels / 2).map(move |i| angle(t, i)));
    angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip()
}

/// Whether the first and the second half of a head are whole vec4s.
pub(crate) fn vec4_fits(p: &Params) -> bool {
    p.dim("D").is_multiple_of(8)
}

/// Workgroups with four pairs of channels of all heads per lane.
pub(crate) fn vec4_groups(p: &Params, _: &Device) -> u64 {
    (p.dim("B") * p.dim("T") * (p.dim("D") / 8)).div_ceil(LANES) as u64
}

/// Workgroups with one pair of channels of all heads per lane.
pub(crate) fn groups(p: &Params, _: &Device) -> u64 {
    (p.dim("B") * p.dim("T") * (p.dim("D") / 2)).div_ceil(LANES) as u64
}

/// Loop iterations: the heads.
pub(crate) fn heads(p: &Params, _: &Device) -> u64 {
    p.dim("H") as u64
}

/// Three operations per element.
pub(crate) fn flops(p: &Params) -> u64 {
    3 * (p.dim("B") * p.dim("T") * p.dim("H") * p.dim("D")) as u64
}

fn reference(p: &Params, values: &Values) -> Values {
    let (time, heads, channels) = (p.dim("T"), p.dim("H"), p.dim("D"));
    let half = channels / 2;
    let (x, cos, sin) = (&values["x"], &values["cos"], &values["sin"]);
    let partner = |i: usize| match i % channels {
        d if d < half => -x[i + half],
        _ => x[i - half],
    };
    let angle = |i: usize| i / (heads * channels) % time * half + i % channels % half;
    let y = (0..x.len()).map(|i| x[i] * cos[angle(i)] + partner(i) * sin[angle(i)]).collect();
    Values::from([("y", y)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (x, cos, sin, y) = (args.f32("x"), args.f32("cos"), args.f32("sin"), args.f32_mut("y"));
    rotate(p, x, [cos, sin], 1.0, y);
}

/// The rotation by the tables' angles, or, with `direction` -1, against them.
pub(crate) fn rotate(p: &Params, x: &[f32], [cos, sin]: [&[f32]; 2], direction: f32, y: &mut [f32]) {
    let (time, heads, channels) = (p.dim("T"), p.dim("H"), p.dim("D"));
    let half = channels / 2;
    let position = heads * channels;
    y.par_chunks_mut(position).zip(x.par_chunks(position)).enumerate().for_each(|(bt, (y, x))| {
        let angles = bt % time * half..(bt % time + 1) * half;
        let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
        for (y, x) in y.chunks_mut(channels).zip(x.chunks(channels)) {
            let ((y_first, y_second), (x_first, x_second)) = (y.split_at_mut(half), x.split_at(half));
            for i in 0..half {
                let sin = direction * sin[i];
                y_first[i] = x_first[i] * cos[i] - x_second[i] * sin;
                y_second[i] = x_second[i] * cos[i] + x_first[i] * sin;
            }
        }
    });
}

/// Shapes that both directions are tried with.
pub(crate) fn cases() -> Vec<Case> {
    [(1, 1, 1, 2), (2, 5, 3, 6), (1, 33, 2, 24), (2, 70, 3, 16), (2, 9, 4, 32)]
        .map(|(b, t, h, d)| Case::new(Params::dims([("B", b), ("T", t), ("H", h), ("D", d)])))
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::tables;

    #[test]
    fn tables_hold_the_angles_of_the_paper() {
        let (cos, sin) = tables(3, 4, 10_000.0);
        // Pair 0 turns by t, pair 1 by t / 100.
        let angles = [0.0f64, 0.0, 1.0, 0.01, 2.0, 0.02];
        assert_eq!(cos, angles.map(|angle| angle.cos() as f32));
        assert_eq!(sin, angles.map(|angle| angle.sin() as f32));
    }
}
