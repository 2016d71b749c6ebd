//! Cross-entropy of rows of logits, in nats, with the log-sum-exp that the backward needs.

use rayon::prelude::*;

use crate::{Card, Case, Class, CpuArgs, Fill, Param, Params, Values, Variant, exp::exp, indices, read, reduce, write};

/// Lanes of a workgroup, by variant.
const ROW_PER_LANE: u64 = 16;
const LANES: u64 = 256;

/// Columns up to which one lane may walk a row in sixteens (lavapipe 22.3 stops at 65,535 iterations).
const MOST_COLUMNS: usize = 1_000_000;

/// See the module.
pub static CARD: Card = Card {
    name: "cross_entropy_fwd",
    args: &[read("logits", &["R", "stride"]), indices("targets", &["R"]), write("loss", &["R"]), write("lse", &["R"])],
    params: &[Param::Dim("R"), Param::Dim("V"), Param::Dim("stride")],
    variants: &[
        Variant {
            preferred_on: &[Class::Software],
            fits: |p| p.dim("stride").is_multiple_of(4) && p.dim("V") <= MOST_COLUMNS,
            ..Variant::portable(
                "row_per_lane",
                include_str!("cross_entropy_fwd_row_per_lane.wgsl"),
                |p, _| (p.dim("R") as u64).div_ceil(ROW_PER_LANE),
                |p, _| p.dim("V") as u64 / 16 + 4,
            )
        },
        Variant::portable(
            "workgroup_per_row",
            include_str!("cross_entropy_fwd.wgsl"),
            |p, _| p.dim("R") as u64,
            |p, _| (p.dim("V") as u64).div_ceil(LANES) + 2 * u64::from(LANES.ilog2()),
        ),
    ],
    reference,
    cpu,
    // The drivers' exp errs by 1.1e-6, their log near 1 by 1.2e-7 absolute.
    nmse: 1e-11,
    cases,
    gradients: &["cross_entropy_bwd"],
    flops: |p| 4 * (p.dim("R") * p.dim("V")) as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    let (rows, vocabulary, stride) = (p.dim("R"), p.dim("V"), p.dim("stride"));
    let (mut loss, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
    for r in 0..rows {
        let logits = &v["logits"][r * stride..][..vocabulary];
        let largest = logits.iter().copied().fold(f64::MIN, f64::max);
        lse[r] = largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
        loss[r] = lse[r] - logits[(v["targets"][r] as usize).min(vocabulary - 1)];
    }
    Values::from([("loss", loss), ("lse", lse)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (vocabulary, stride) = (p.dim("V"), p.dim("stride"));
    let (logits, targets) = (args.f32("logits"), args.u32("targets"));
    let (loss, lse) = (args.f32_mut("loss"), args.f32_mut("lse"));
    let inputs = logits.par_chunks(stride).zip(targets);
    loss.par_iter_mut().zip(lse).zip(inputs).with_min_len(8).for_each(|((loss, lse), (logits, &target))| {
        let logits = &logits[..vocabulary];
        // NaN is passed over, and comes back in the sum.
        let largest = reduce::max(logits);
        let log_sum = reduce::sum_of(logits, |logit| exp(logit - largest)).ln();
        *lse = largest + log_sum;
        *loss = (largest - logits[(target as usize).min(vocabulary - 1)]) + log_sum;
    });
}

fn cases() -> Vec<Case> {
    let padding_of_nan = case(70, 6, 8, 1.0).fill("logits", Fill::Derived(padded_with_nan));
    // Targets beyond the vocabulary's end.
    let stray = case(5, 3, 4, 1.0).fill("targets", Fill::Index(9));
    [shared_cases(), vec![padding_of_nan, stray]].concat()
}

/// Shared with the backward card. Logits beyond the range of exp are among them, in the padding too.
pub(crate) fn shared_cases() -> Vec<Case> {
    let shapes = [(1, 1, 1), (3, 5, 5), (2, 3, 7), (65, 48, 48), (67, 129, 132), (5, 1023, 1024), (3, 2051, 2053)];
    let mut cases = shapes.map(|(r, v, stride)| case(r, v, stride, 1.0)).to_vec();
    cases.extend([case(7, 30, 32, 60.0), case(7, 30, 33, 60.0)]);
    cases
}

fn case(rows: usize, vocabulary: usize, stride: usize, std: f64) -> Case {
    Case::new(Params::dims([("R", rows), ("V", vocabulary), ("stride", stride)]))
        .fill("logits", Fill::Normal(0.0, std))
        .fill("targets", Fill::Index(vocabulary))
}

fn padded_with_nan(p: &Params, _: &Values) -> Vec<f64> {
    let (vocabulary, stride) = (p.dim("V"), p.dim("stride"));
    let logit = |i: usize| if i % stride < vocabulary { (i as f64).sin() } else { f64::NAN };
    (0..p.dim("R") * stride).map(logit).collect()
}
