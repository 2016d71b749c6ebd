//! NovoGrad (Ginsburg et al. 2019, arXiv 1905.11286) on segments, each with a second moment of its own: the running
//! mean of its squared gradient norm, which begins with the first step's. Decay goes through the first moment; nothing
//! is corrected for the start. Gradient scale and whether the step is applied stand in the optimizer's state
//! (`gradient_clip`), the gradient's norm in its statistics: |g|^2 = (n - 1) std^2 + n mean^2.

use rayon::prelude::*;

use crate::{
    Card, Case, CpuArgs, Fill, Param, Params, Values,
    gradient_clip::slots as state_slots,
    indices, read, read_write,
    segment::{self, extent},
    segment_statistics::slots,
    write,
};

/// Elements of one task of the CPU kernel.
const CHUNK: usize = 1 << 13;

/// See the module; `table` and S as in [`segment`], `stats` of g as of `segment_statistics`. `next` is v after the
/// step, to be copied there: while one workgroup writes a segment's v, others still read it. Elements that are no
/// segment's keep their bits.
pub static CARD: Card = Card {
    name: "novograd",
    args: &[
        read_write("w", &["N"]),
        read_write("m", &["N"]),
        read("g", &["N"]),
        indices("table", &["SEG", "2"]),
        read("stats", &["SEG", "4"]),
        read("v", &["SEG"]),
        read("state", &["8"]),
        write("next", &["SEG"]),
    ],
    params: &[
        Param::Dim("N"),
        Param::Dim("SEG"),
        Param::Dim("S"),
        Param::Scalar("beta1"),
        Param::Scalar("beta2"),
        Param::Scalar("one_minus_beta2"),
        Param::Scalar("eps"),
        Param::Scalar("weight_decay"),
    ],
    variants: &segment::variants(include_str!("novograd.wgsl"), include_str!("novograd_vec4.wgsl")),
    reference,
    cpu,
    nmse: 1e-12,
    cases,
    gradients: &[],
    flops: |p| 7 * p.dim("N") as u64,
};

fn reference(p: &Params, values: &Values) -> Values {
    let scalar = |name| f64::from(p.scalar(name));
    let (mut w, mut m, mut next) = (values["w"].clone(), values["m"].clone(), values["v"].clone());
    let state = &values["state"];
    let (lr, scale) = (state[state_slots::LR], state[state_slots::SCALE]);
    for segment in 0..p.dim("SEG") {
        if state[state_slots::FINITE] == 0.0 {
            continue;
        }
        let (offset, length) = (values["table"][2 * segment] as usize, values["table"][2 * segment + 1] as usize);
        let stats = &values["stats"][4 * segment..][..4];
        let n = length as f64;
        let norm2 = scale.powi(2) * ((n - 1.0) * stats[slots::STD].powi(2) + n * stats[slots::MEAN].powi(2));
        next[segment] = match state[state_slots::APPLIED] {
            1.0 => norm2,
            _ => scalar("beta2") * next[segment] + scalar("one_minus_beta2") * norm2,
        };
        let root = (next[segment] + scalar("eps")).sqrt();
        for i in offset..offset + length {
            m[i] = scalar("beta1") * m[i] + values["g"][i] * scale / root + scalar("weight_decay") * w[i];
            w[i] -= lr * m[i];
        }
    }
    Values::from([("w", w), ("m", m), ("next", next)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (g, table, stats) = (args.f32("g"), args.u32("table"), args.f32("stats"));
    let (v, state, next) = (args.f32("v"), args.f32("state"), args.f32_mut("next"));
    let (w, m) = (args.f32_mut("w"), args.f32_mut("m"));
    next.copy_from_slice(v);
    if state[state_slots::FINITE] == 0.0 {
        return;
    }
    let (beta1, decay, lr) = (p.scalar("beta1"), p.scalar("weight_decay"), state[state_slots::LR]);
    for (segment, next) in next.iter_mut().enumerate() {
        let extent = extent(table, segment);
        let n = extent.len() as f32;
        let scaled = |slot: usize| state[state_slots::SCALE] * stats[4 * segment + slot];
        let norm2 = (n - 1.0) * scaled(slots::STD).powi(2) + n * scaled(slots::MEAN).powi(2);
        let first = state[state_slots::APPLIED] == 1.0;
        *next = if first { norm2 } else { p.scalar("beta2") * *next + p.scalar("one_minus_beta2") * norm2 };
        let rate = state[state_slots::SCALE] / (*next + p.scalar("eps")).sqrt();
        let moments = m[extent.clone()].par_chunks_mut(CHUNK);
        let weights = w[extent.clone()].par_chunks_mut(CHUNK);
        weights.zip(moments).zip(g[extent].par_chunks(CHUNK)).for_each(|((w, m), g)| {
            for ((w, m), g) in w.iter_mut().zip(m).zip(g) {
                *m = beta1 * *m + rate * g + decay * *w;
                *w -= lr * *m;
            }
        });
    }
}

fn cases() -> Vec<Case> {
    // A learning rate that moves the weights by as much as they are; in some an eps that is not lost beside v.
    let case = |case: Case, state: fn(&Params, &Values) -> Vec<f64>, eps, decay| Case {
        params: case
            .params
            .with_scalar("beta1", 0.9)
            .with_scalar("beta2", 0.7)
            .with_scalar("one_minus_beta2", 0.3)
            .with_scalar("eps", eps)
            .with_scalar("weight_decay", decay),
        fills: [
            case.fills,
            vec![("stats", Fill::Derived(stats)), ("v", Fill::Uniform(0.0, 300.0)), ("state", Fill::Derived(state))],
        ]
        .concat(),
    };
    let shapes = segment::shapes().into_iter().map(|shape| case(shape, later, 1e-8, 0.1));
    shapes
        .chain([
            case(segment::case(7, 64, 0), first, 1e-8, 0.0),
            case(segment::case(5, 7, 1), first, 0.5, 0.3),
            case(segment::case(6, 64, 0), later, 90.0, 0.0),
            case(segment::case(7, 3, 64), skipped, 1e-8, 0.1),
            case(segment::case(7, 3, 1), skipped, 1e-8, 0.1),
        ])
        .collect()
}

/// Mean and standard deviation (N - 1) of the segments of g.
fn stats(p: &Params, v: &Values) -> Vec<f64> {
    let stats = |segment: usize| {
        let (offset, length) = (v["table"][2 * segment] as usize, v["table"][2 * segment + 1] as usize);
        let (g, n) = (&v["g"][offset..offset + length], length as f64);
        let mean = g.iter().sum::<f64>() / n;
        let squares: f64 = g.iter().map(|g| (g - mean).powi(2)).sum();
        [mean, (squares / (n - 1.0).max(1.0)).sqrt(), 0.0, 0.0]
    };
    (0..p.dim("SEG")).flat_map(stats).collect()
}

fn later(_: &Params, _: &Values) -> Vec<f64> {
    let mut state = vec![0.0; 8];
    state[state_slots::APPLIED] = 3.0;
    state[state_slots::SCALE] = 0.6;
    state[state_slots::NORM] = 1.7;
    state[state_slots::FINITE] = 1.0;
    state[state_slots::LR] = 0.3;
    state
}

fn first(p: &Params, v: &Values) -> Vec<f64> {
    let mut state = later(p, v);
    state[state_slots::APPLIED] = 1.0;
    state
}

fn skipped(p: &Params, v: &Values) -> Vec<f64> {
    let mut state = later(p, v);
    state[state_slots::FINITE] = 0.0;
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    /// n numbers g have |g|^2 = (n - 1) std^2 + n mean^2.
    #[test]
    fn the_norm_behind_the_statistics_is_that_of_the_elements() {
        let g = [3.0, -1.0, 2.0, 8.0];
        let params = Params::dims([("SEG", 1)]);
        let values = Values::from([("table", vec![0.0, 4.0]), ("g", g.to_vec())]);
        let stats = stats(&params, &values);
        let norm2 = 3.0 * stats[slots::STD].powi(2) + 4.0 * stats[slots::MEAN].powi(2);
        assert!((norm2 - 78.0).abs() < 1e-12, "{norm2}");
    }
}
