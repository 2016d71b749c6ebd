//! Gives segments the standard deviation of their targets, where theirs exceeds it by more than a threshold: target
//! variance rescaling. Means stay, and so does the order of the elements.
//!
//! The rule is std / target > threshold. Above 1 it only ever shrinks. A threshold of exactly 1 means 1 + 1e-6, beyond
//! what rounding leaves, so that a second firing changes nothing; with one of 0 every segment that has a spread is set
//! to its target, whether it shrinks or grows.

use rayon::prelude::*;

use crate::{
    Card, Case, CpuArgs, Fill, Param, Params, Values, indices, read, read_write,
    segment::{self, extent},
    segment_statistics::slots,
    write,
};

/// Elements of one task of the CPU kernel.
const CHUNK: usize = 1 << 14;

/// What stands for a threshold of 1.
const ABOVE_ONE: f64 = 1.0 + 1e-6;

/// Spread, over the mean, up to which it may be nothing but the mean's rounding: a sum of equal numbers is off by up to
/// one rounding of 6e-8 per term that a lane adds, 256 of them where 16 Mi elements are summed by 64 chunks of 256 lanes
/// in fours. The WGSL has the same.
const ROUNDING: f64 = 3e-5;

/// See the module; `table` and S as in [`segment`], `stats` as of `segment_statistics`. `rescaled` is 1 where a segment
/// changed, otherwise 0. A segment without a spread (std 0, not finite, or [`ROUNDING`] of the mean) or with a target
/// that is not positive keeps its bits, as do elements that are no segment's.
pub static CARD: Card = Card {
    name: "segment_rescale",
    args: &[
        read_write("x", &["N"]),
        indices("table", &["SEG", "2"]),
        read("stats", &["SEG", "4"]),
        read("targets", &["SEG"]),
        write("rescaled", &["SEG"]),
    ],
    params: &[Param::Dim("N"), Param::Dim("SEG"), Param::Dim("S"), Param::Scalar("threshold")],
    variants: &segment::variants(include_str!("segment_rescale.wgsl"), include_str!("segment_rescale_vec4.wgsl")),
    reference,
    cpu,
    nmse: 1e-13,
    cases,
    gradients: &[],
    flops: |p| 3 * p.dim("N") as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    let threshold = f64::from(p.scalar("threshold"));
    let (mut x, mut rescaled) = (v["x"].clone(), vec![0.0; p.dim("SEG")]);
    for segment in 0..p.dim("SEG") {
        let stats = &v["stats"][4 * segment..][..4];
        let (mean, std, target) = (stats[slots::MEAN], stats[slots::STD], v["targets"][segment]);
        let has_spread = std > ROUNDING * mean.abs() && std.is_finite() && target > 0.0;
        if has_spread && std / target > if threshold == 1.0 { ABOVE_ONE } else { threshold } {
            rescaled[segment] = 1.0;
            let (offset, length) = (v["table"][2 * segment] as usize, v["table"][2 * segment + 1] as usize);
            x[offset..offset + length].iter_mut().for_each(|x| *x = (*x - mean) / std * target + mean);
        }
    }
    Values::from([("x", x), ("rescaled", rescaled)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (x, table, stats) = (args.f32_mut("x"), args.u32("table"), args.f32("stats"));
    let (targets, rescaled, threshold) = (args.f32("targets"), args.f32_mut("rescaled"), p.scalar("threshold"));
    let statistics = |segment: usize| (stats[4 * segment + slots::MEAN], stats[4 * segment + slots::STD]);
    for (segment, rescaled) in rescaled.iter_mut().enumerate() {
        let (mean, std) = statistics(segment);
        *rescaled = f32::from(exceeds(mean, std, targets[segment], threshold));
    }
    let rescaled = &*rescaled;
    x.par_chunks_mut(CHUNK).enumerate().for_each(|(i, x)| {
        let begin = i * CHUNK;
        for segment in (0..targets.len()).filter(|&segment| rescaled[segment] > 0.0) {
            let (extent, (mean, std)) = (extent(table, segment), statistics(segment));
            let end = begin + x.len();
            let within = |at: usize| at.clamp(begin, end) - begin;
            let ratio = targets[segment] / std;
            x[within(extent.start)..within(extent.end)].iter_mut().for_each(|x| *x = (*x - mean) * ratio + mean);
        }
    });
}

fn exceeds(mean: f32, std: f32, target: f32, threshold: f32) -> bool {
    let limit = if threshold == 1.0 { ABOVE_ONE as f32 } else { threshold };
    std.is_normal() && target > 0.0 && std > ROUNDING as f32 * mean.abs() && std > limit * target
}

fn cases() -> Vec<Case> {
    let case = |case: Case, threshold: f32, targets: fn(&Params, &Values) -> Vec<f64>| Case {
        params: case.params.with_scalar("threshold", threshold),
        fills: [case.fills, vec![("stats", Fill::Derived(stats)), ("targets", Fill::Derived(targets))]].concat(),
    };
    let around = segment::shapes().into_iter().map(|shape| case(shape, 1.2, around_threshold));
    around
        .chain([
            case(segment::case(7, 64, 0), 1.0, at_std),
            case(segment::case(7, 64, 0), 0.0, at_std),
            case(segment::case(6, 64, 0), 0.0, around_threshold),
        ])
        .collect()
}

/// Those of x by turns: the second segment has a single element, the fifth is given no spread, the sixth an infinite
/// one, the seventh what rounding makes of equal elements.
fn stats(p: &Params, v: &Values) -> Vec<f64> {
    let stats = |segment: usize| {
        let x = segment::elements(v, segment);
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let squares: f64 = x.iter().map(|x| (x - mean).powi(2)).sum();
        let std = match segment {
            4 => 0.0,
            5 => f64::INFINITY,
            6 => 1e-5 * mean,
            _ => (squares / (n - 1.0).max(1.0)).sqrt(),
        };
        [mean, std, 0.0, 0.0]
    };
    (0..p.dim("SEG")).flat_map(stats).collect()
}

/// Targets that the even segments exceed by more than a fifth, the odd ones by less.
fn around_threshold(p: &Params, v: &Values) -> Vec<f64> {
    let target = |segment: usize| (0.01 + v["stats"][4 * segment + 1].min(9.0)) / [1.3, 1.1][segment % 2];
    (0..p.dim("SEG")).map(target).collect()
}

/// Targets that the segments exceed by rounding: by half of what a threshold of 1 lets pass.
fn at_std(p: &Params, v: &Values) -> Vec<f64> {
    (0..p.dim("SEG")).map(|segment| v["stats"][4 * segment + 1].min(9.0) / (1.0 + 5e-7)).collect()
}
