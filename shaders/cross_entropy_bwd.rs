//! Cross-entropy, gradient to the logits: softmax minus the target's indicator. Padding columns get zeros, so that
//! matmuls may read whole rows.

use rayon::prelude::*;

use crate::{
    Card, CpuArgs, Param, Params, Values, Variant, cross_entropy_fwd::shared_cases, exp::exp, indices, read,
    vector::vectorised, write,
};

/// Columns of a row that one workgroup owns.
const COLUMNS: u64 = 1024;

/// Lanes of a workgroup in every variant.
const LANES: u64 = 64;

/// See the module.
pub static CARD: Card = Card {
    name: "cross_entropy_bwd",
    args: &[
        read("logits", &["R", "stride"]),
        indices("targets", &["R"]),
        read("lse", &["R"]),
        read("dloss", &["R"]),
        write("dlogits", &["R", "stride"]).half(),
    ],
    params: &[Param::Dim("R"), Param::Dim("V"), Param::Dim("stride")],
    variants: &[
        Variant {
            fits: |p| p.dim("stride").is_multiple_of(4),
            ..Variant::portable(
                "vec4",
                include_str!("cross_entropy_bwd_vec4.wgsl"),
                |p, _| groups(p),
                |_, _| COLUMNS / 4 / LANES,
            )
        },
        Variant::portable("scalar", include_str!("cross_entropy_bwd.wgsl"), |p, _| groups(p), |_, _| COLUMNS / LANES),
    ],
    reference,
    cpu,
    // The drivers' exp errs by 1.1e-6.
    nmse: 1e-11,
    cases: shared_cases,
    gradients: &[],
    flops: |p| 4 * (p.dim("R") * p.dim("V")) as u64,
};

fn groups(p: &Params) -> u64 {
    p.dim("R") as u64 * (p.dim("stride") as u64).div_ceil(COLUMNS)
}

fn reference(p: &Params, v: &Values) -> Values {
    let (rows, vocabulary, stride) = (p.dim("R"), p.dim("V"), p.dim("stride"));
    let mut dlogits = vec![0.0; rows * stride];
    for r in 0..rows {
        for column in 0..vocabulary {
            let softmax = (v["logits"][r * stride + column] - v["lse"][r]).exp();
            let indicator = if v["targets"][r] as usize == column { 1.0 } else { 0.0 };
            dlogits[r * stride + column] = v["dloss"][r] * (softmax - indicator);
        }
    }
    Values::from([("dlogits", dlogits)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (vocabulary, stride) = (p.dim("V"), p.dim("stride"));
    let (logits, targets) = (args.f32("logits"), args.u32("targets"));
    let (lse, dloss, dlogits) = (args.f32("lse"), args.f32("dloss"), args.f32_mut("dlogits"));
    let rows = dlogits.par_chunks_mut(stride).zip(logits.par_chunks(stride)).enumerate();
    rows.with_min_len(8).for_each(|(r, (dlogits, logits))| {
        let (dlogits, padding) = dlogits.split_at_mut(vocabulary);
        padding.fill(0.0);
        let (lse, dloss, target) = (lse[r], dloss[r], targets[r] as usize);
        vectorised(
            #[inline(always)]
            || dlogits.iter_mut().zip(logits).for_each(|(dlogit, logit)| *dlogit = dloss * exp(logit - lse)),
        );
        if let Some(dlogit) = dlogits.get_mut(target) {
            *dlogit = dloss * (exp(logits[target] - lse) - 1.0);
        }
    });
}
