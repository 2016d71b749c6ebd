//! The group-rational activation, gradient to its input.

use rayon::prelude::*;

use crate::{
    Card, CpuArgs, Param, Params, Values,
    rational::{PARAMS, Point, ROWS_BACKWARD, Rational, chunk, elementwise, smooth_cases, width},
    read,
    vector::vectorised,
    write,
};

/// See the module.
pub static CARD: Card = Card {
    name: "rational_bwd_x",
    args: &[
        read("dy", &["R", "C"]).half(),
        read("x", &["R", "C"]).half(),
        read("a", &["A", "6"]),
        read("b", &["G", "4"]),
        write("dx", &["R", "C"]).half(),
    ],
    params: &{
        let [r, c, g, a, form] = PARAMS;
        [r, c, g, a, form, Param::Dim("accumulate")]
    },
    variants: &elementwise::<ROWS_BACKWARD>(
        include_str!("rational_bwd_x_vec4.wgsl"),
        include_str!("rational_bwd_x.wgsl"),
    ),
    reference,
    cpu,
    // Some roundings of P'/Q and of S F/Q, of which inputs of a narrow range may leave a fiftieth.
    nmse: 1e-10,
    cases: smooth_cases,
    gradients: &[],
    flops: |p| 40 * (p.dim("R") * p.dim("C")) as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    let slope = |(i, x): (usize, &f64)| v["dy"][i] * Point::new(p, &v["a"], &v["b"], i % p.dim("C"), *x).dx;
    Values::from([("dx", v["x"].iter().enumerate().map(slope).collect())])
}

fn cpu(p: &Params, args: CpuArgs<'_>) {
    if p.dim("sum_abs") == 1 { apply::<true>(p, args) } else { apply::<false>(p, args) }
}

fn apply<const SUM_ABS: bool>(p: &Params, mut args: CpuArgs<'_>) {
    let (chunk, width, accumulate) = (chunk(p.dim("C")), width(p), p.accumulates());
    let (dy, x, a, b) = (args.f32("dy"), args.f32("x"), args.f32("a"), args.f32("b"));
    let groups = Rational::<SUM_ABS>::groups(a, b);
    let inputs = dy.par_chunks(chunk).zip(x.par_chunks(chunk));
    args.f32_mut("dx").par_chunks_mut(chunk).zip(inputs).for_each(|(dx, (dy, x))| {
        vectorised(
            #[inline(always)]
            || {
                let slices = dx.chunks_mut(width).zip(dy.chunks(width).zip(x.chunks(width)));
                for ((dx, (dy, x)), f) in slices.zip(groups.iter().cycle()) {
                    for (dx, (dy, x)) in dx.iter_mut().zip(dy.iter().zip(x)) {
                        *dx = if accumulate { *dx } else { 0.0 } + dy * f.slope(*x);
                    }
                }
            },
        );
    });
}
