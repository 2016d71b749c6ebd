//! Mean, standard deviation (N - 1), largest magnitude and kurtosis of segments: the last stage of their statistics.

use rayon::prelude::*;

use crate::{
    Card, Case, CpuArgs, Fill, Param, Params, Values, Variant, indices, read,
    reduce::{max, sum},
    segment, write,
};

/// Slots of a segment's statistics. `include/segment.wgsl` has the same.
pub mod slots {
    /// Mean.
    pub const MEAN: usize = 0;
    /// Standard deviation, with N - 1; 0 of a single element.
    pub const STD: usize = 1;
    /// Largest magnitude.
    pub const ABSMAX: usize = 2;
    /// Fourth central moment over the square of the second, both with N: 3 of normal numbers; 0 where all are equal.
    pub const KURTOSIS: usize = 3;
}

/// See the module; `table` and S as in [`segment`], `partial` as of `segment_sum`, `moments` as of `segment_moments`.
///
/// Of equal elements whose sum f32 rounds, std is that rounding (some 1e-7 of the mean) and the kurtosis 1.
pub static CARD: Card = Card {
    name: "segment_statistics",
    args: &[
        indices("table", &["SEG", "2"]),
        read("partial", &["SEG", "S"]),
        read("moments", &["SEG", "S", "3"]),
        write("stats", &["SEG", "4"]),
    ],
    params: &[Param::Dim("SEG"), Param::Dim("S")],
    variants: &[Variant::portable(
        "workgroup",
        include_str!("segment_statistics.wgsl"),
        |p, _| p.dim("SEG") as u64,
        |p, _| segment::reductions(p),
    )],
    reference,
    cpu,
    nmse: 1e-12,
    cases,
    gradients: &[],
    flops: |p| 4 * (p.dim("SEG") * p.dim("S")) as u64,
};

pub(crate) fn reference(p: &Params, v: &Values) -> Values {
    let chunks = p.dim("S");
    let mut stats = Vec::new();
    for segment in 0..p.dim("SEG") {
        let n = v["table"][2 * segment + 1];
        let moments = &v["moments"][segment * chunks * 3..][..chunks * 3];
        let moment = |slot: usize| moments.iter().skip(slot).step_by(3);
        let (squares, fourths): (f64, f64) = (moment(0).sum(), moment(1).sum());
        stats.push(v["partial"][segment * chunks..][..chunks].iter().sum::<f64>() / n);
        stats.push(if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 });
        stats.push(moment(2).fold(0.0, |largest: f64, &x| largest.max(x)));
        stats.push(if squares > 0.0 { (fourths / n) / (squares / n).powi(2) } else { 0.0 });
    }
    Values::from([("stats", stats)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (table, chunks) = (args.u32("table"), p.dim("S"));
    let (partial, moments, stats) = (args.f32("partial"), args.f32("moments"), args.f32_mut("stats"));
    stats.par_chunks_mut(4).enumerate().for_each(|(segment, stats)| {
        let n = table[2 * segment + 1] as f32;
        let partial = &partial[segment * chunks..][..chunks];
        let moments = &moments[segment * chunks * 3..][..chunks * 3];
        let moment = |slot: usize| sum(chunks, |s| moments[3 * s + slot]);
        let (squares, fourths) = (moment(0), moment(1));
        let largest: Vec<f32> = moments.iter().skip(2).step_by(3).copied().collect();
        stats[slots::MEAN] = sum(chunks, |s| partial[s]) / n;
        stats[slots::STD] = (squares / (n - 1.0).max(1.0)).sqrt();
        stats[slots::ABSMAX] = max(&largest);
        stats[slots::KURTOSIS] = if squares > 0.0 { (fourths / squares) / (squares / n) } else { 0.0 };
    });
}

fn cases() -> Vec<Case> {
    // Sums of the chunks' lengths, so that no slot is lost beside another.
    let case = |(segments, chunks)| {
        Case::new(Params::dims([("SEG", segments), ("S", chunks)]))
            .fill("table", Fill::Derived(segment::table_of))
            .fill("partial", Fill::Derived(sums))
            .fill("moments", Fill::Derived(moments))
    };
    [(1, 1), (1, 64), (7, 64), (6, 3), (5, 100)].map(case).to_vec()
}

fn lengths(p: &Params, v: &Values) -> Vec<f64> {
    let lengths = v["table"].iter().skip(1).step_by(2);
    lengths.flat_map(|&length| vec![length / p.dim("S") as f64; p.dim("S")]).collect()
}

fn sums(p: &Params, v: &Values) -> Vec<f64> {
    lengths(p, v).into_iter().enumerate().map(|(i, length)| length * (0.3 + (i as f64).sin())).collect()
}

/// Some of every kind; a single element has none, nor have the fifth segment's, which are all equal.
fn moments(p: &Params, v: &Values) -> Vec<f64> {
    let moments = |(i, length): (usize, f64)| {
        let (phase, spread) = (i as f64, i / p.dim("S") != 4 && v["table"][i / p.dim("S") * 2 + 1] > 1.0);
        let sum = |mean: f64| if spread { length * mean * (1.5 + phase.cos()) } else { 0.0 };
        [sum(0.5), sum(1.0), 2.0 + phase.sin()]
    };
    lengths(p, v).into_iter().enumerate().flat_map(moments).collect()
}

#[cfg(test)]
mod tests {
    use super::slots;
    use crate::gradient_clip::tests::constants;

    #[test]
    fn slots_are_those_of_the_wgsl() {
        let expected =
            vec![("MEAN", slots::MEAN), ("STD", slots::STD), ("ABSMAX", slots::ABSMAX), ("KURTOSIS", slots::KURTOSIS)];
        assert_eq!(constants(include_str!("include/segment.wgsl"), "STATISTICS_"), expected);
    }
}
