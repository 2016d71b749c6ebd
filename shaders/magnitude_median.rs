//! Median of the magnitudes, exact: of an even number of elements the mean of the two in the middle (`numpy.median`;
//! `torch.median` takes the lower).
//!
//! A radix select: without the sign, the bits of an f32 are in the order of the magnitudes, with infinity and then NaNs
//! at their end. Histograms of 8 bits each narrow the median down from the highest; counts are integers, so their order
//! of arrival leaves no trace.

use crate::{Card, Case, CpuArgs, Fill, Param, Params, Values, Variant, read, write};

/// Lanes of the workgroup, and bins of a histogram.
const LANES: u64 = 256;

/// Without the sign.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// See the module. Only the elements 0, stride, 2 stride, ... of x enter; a stride that shares a factor with a row's
/// length sees some columns only. One workgroup reads them all five times: up to 3.2 Mi of them (13 Mi where it reads
/// fours) stay within the loop budget, and tens of thousands are enough for a median within a percent.
pub static CARD: Card = Card {
    name: "magnitude_median",
    args: &[read("x", &["N"]), write("y", &["1"])],
    params: &[Param::Dim("N"), Param::Dim("stride")],
    variants: &[
        Variant {
            fits: |p| p.dim("N").is_multiple_of(4) && p.dim("stride") == 1,
            ..Variant::portable(
                "vec4",
                include_str!("magnitude_median_vec4.wgsl"),
                |_, _| 1,
                |p, _| iterations(p, 4 * LANES),
            )
        },
        Variant::portable("scalar", include_str!("magnitude_median.wgsl"), |_, _| 1, |p, _| iterations(p, LANES)),
    ],
    reference,
    cpu,
    nmse: 1e-14,
    cases,
    gradients: &[],
    flops: |_| 0,
};

/// Four histograms, each searched bin by bin, and the search for the element above.
fn iterations(p: &Params, round: u64) -> u64 {
    5 * (p.dim("N").div_ceil(p.dim("stride")) as u64).div_ceil(round) + 4 * (1 + LANES)
}

fn reference(p: &Params, v: &Values) -> Values {
    let mut sorted: Vec<f64> = v["x"].iter().step_by(p.dim("stride")).map(|x| x.abs()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let lower = if sorted.len().is_multiple_of(2) { middle - 1 } else { middle };
    Values::from([("y", vec![(sorted[lower] + sorted[middle]) / 2.0])])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let bits = args.f32("x").iter().step_by(p.dim("stride")).map(|x| x.to_bits() & MAGNITUDE);
    let mut bits: Vec<u32> = bits.collect();
    let middle = (bits.len() - 1) / 2;
    let odd = bits.len() % 2 == 1;
    let (_, &mut lower, above) = bits.select_nth_unstable(middle);
    let upper = if odd { lower } else { above.iter().copied().min().unwrap_or(lower) };
    args.f32_mut("y")[0] = 0.5 * f32::from_bits(lower) + 0.5 * f32::from_bits(upper);
}

fn cases() -> Vec<Case> {
    let case = |(n, stride)| Case::new(Params::dims([("N", n), ("stride", stride)]));
    let shapes =
        [(1, 1), (2, 1), (3, 1), (4, 1), (255, 1), (1000, 1), (4096, 1), (5003, 1), (5003, 3), (64, 64), (7, 9)];
    let mut cases = shapes.map(case).to_vec();
    cases.extend([
        // Magnitudes of every size; two middle values far apart, close together, equal; all zero; a middle of infinities.
        case((1024, 1)).fill("x", Fill::Derived(exponents)),
        case((1001, 1)).fill("x", Fill::Derived(exponents)),
        case((1000, 1)).fill("x", Fill::Derived(halves)),
        case((1002, 1)).fill("x", Fill::Derived(neighbours)),
        case((1000, 1)).fill("x", Fill::Derived(few)),
        case((998, 1)).fill("x", Fill::Derived(few)),
        case((300, 1)).fill("x", Fill::Normal(0.0, 0.0)),
        case((300, 1)).fill("x", Fill::Normal(f64::INFINITY, 0.0)),
    ]);
    cases
}

fn exponents(p: &Params, _: &Values) -> Vec<f64> {
    (0..p.dim("N")).map(|i| (i as f64).sin() * 2.0_f64.powi((i * 37 % 200) as i32 - 100)).collect()
}

/// One half of them is 1, the other -3.
fn halves(p: &Params, _: &Values) -> Vec<f64> {
    (0..p.dim("N")).map(|i| if i % 2 == 0 { 1.0 } else { -3.0 }).collect()
}

/// Numbers that differ in their last bits.
fn neighbours(p: &Params, _: &Values) -> Vec<f64> {
    (0..p.dim("N")).map(|i| 1.0 + (i * 619 % p.dim("N")) as f64 * f64::from(f32::EPSILON)).collect()
}

/// Three magnitudes, many times each.
fn few(p: &Params, _: &Values) -> Vec<f64> {
    (0..p.dim("N")).map(|i| (i % 5) as f64 - 2.5).collect()
}
