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
/// changed, otherwise 0. A segment without a spread (std 0, not finite, or the mean's rounding) or with a target
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
            case(segment::case(4, 64, 0), 0.0, none),
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

/// Targets that ask for nothing.
fn none(p: &Params, _: &Values) -> Vec<f64> {
    (0..p.dim("SEG")).map(|segment| -(segment as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CpuSlice, segment_moments, segment_statistics, segment_sum};

    const TARGET: f32 = 0.01;

    /// Offset, length, mean and std of segments, the last one constant; between them gaps.
    const SEGMENTS: [(u32, u32, f64, f64); 6] = [
        (0, 196_608, 0.0, 0.025),
        (196_672, 1003, 0.03, 0.02),
        (197_760, 70_001, -0.001, 0.012),
        (267_840, 64, 0.0, 0.3),
        (267_904, 4096, 0.0, 0.005),
        (272_064, 5000, 0.02, 0.0),
    ];
    const ELEMENTS: usize = 277_100;

    /// Sums of twelve uniform numbers from a congruential generator, and 7 in the gaps.
    fn elements() -> Vec<f32> {
        let mut state = 1_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut x = vec![7.0; ELEMENTS];
        for (offset, length, mean, std) in SEGMENTS {
            let x = &mut x[offset as usize..(offset + length) as usize];
            x.iter_mut().for_each(|x| *x = (mean + std * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0)) as f32);
        }
        x
    }

    /// The four kernels on `x`; returns what was rescaled.
    fn fire(x: &mut [f32], threshold: f32) -> Vec<f32> {
        let table: Vec<u32> = SEGMENTS.iter().flat_map(|&(offset, length, _, _)| [offset, length]).collect();
        let (targets, mut rescaled) = ([TARGET; SEGMENTS.len()], vec![0.0; SEGMENTS.len()]);
        let mut partial = vec![0.0; SEGMENTS.len() * segment::CHUNKS];
        let (mut moments, mut stats) = (vec![0.0; 3 * partial.len()], vec![0.0; 4 * SEGMENTS.len()]);
        let params = Params::dims([("N", x.len()), ("SEG", SEGMENTS.len()), ("S", segment::CHUNKS)]);
        let params = params.with_scalar("threshold", threshold);
        let run = |card: &Card, slices: Vec<CpuSlice<'_>>| {
            let mut args = CpuArgs::default();
            card.args.iter().zip(slices).for_each(|(arg, slice)| args.bind(arg.name, slice));
            (card.cpu)(&params, args);
        };
        use CpuSlice::{F32, F32Mut, U32};
        run(&segment_sum::CARD, vec![F32(x), U32(&table), F32Mut(&mut partial)]);
        run(&segment_moments::CARD, vec![F32(x), U32(&table), F32(&partial), F32Mut(&mut moments)]);
        run(&segment_statistics::CARD, vec![U32(&table), F32(&partial), F32(&moments), F32Mut(&mut stats)]);
        run(&CARD, vec![F32Mut(x), U32(&table), F32(&stats), F32(&targets), F32Mut(&mut rescaled)]);
        rescaled
    }

    fn mean_and_std(x: &[f32]) -> (f64, f64) {
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64;
        let squares: f64 = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
        (mean, (squares / (x.len() - 1) as f64).sqrt())
    }

    #[test]
    fn rescaled_segments_meet_their_targets_and_others_keep_their_bits() {
        for (threshold, expected) in [
            (1.3, [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]),
            (1.0, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
            (0.0, [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]),
        ] {
            let before = elements();
            let mut after = before.clone();
            assert_eq!(fire(&mut after, threshold), expected, "threshold {threshold}");
            for ((offset, length, _, _), rescaled) in SEGMENTS.into_iter().zip(expected) {
                let extent = offset as usize..(offset + length) as usize;
                let (old, new) = (&before[extent.clone()], &after[extent]);
                if rescaled == 0.0 {
                    assert_eq!(old, new, "segment at {offset}, threshold {threshold}");
                    continue;
                }
                let ((old_mean, _), (new_mean, std)) = (mean_and_std(old), mean_and_std(new));
                assert!((std / f64::from(TARGET) - 1.0).abs() < 1e-5, "segment at {offset}: std {std}");
                assert!((old_mean - new_mean).abs() < 1e-7, "segment at {offset}: {old_mean} to {new_mean}");
                let mut order: Vec<usize> = (0..old.len()).collect();
                order.sort_by(|&i, &j| old[i].total_cmp(&old[j]));
                assert!(order.is_sorted_by(|&i, &j| new[i] <= new[j]), "segment at {offset}: order");
            }
            assert_eq!(after.iter().filter(|&&x| x == 7.0).count(), before.iter().filter(|&&x| x == 7.0).count());
        }
    }

    #[test]
    fn a_second_firing_changes_nothing() {
        for threshold in [1.2, 1.0] {
            let mut x = elements();
            fire(&mut x, threshold);
            let once = x.clone();
            assert_eq!(fire(&mut x, threshold), [0.0; SEGMENTS.len()], "threshold {threshold}");
            assert_eq!(x, once, "threshold {threshold}");
        }
    }
}
