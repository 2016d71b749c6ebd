//! The group-rational activation.

use rayon::prelude::*;

use crate::{
    Card, Case, CpuArgs, Fill, Params, Values,
    rational::{PARAMS, Point, ROWS, Rational, case, chunk, elementwise, width},
    read,
    vector::vectorised,
    write,
};

/// See the module.
pub static CARD: Card = Card {
    name: "rational_fwd",
    args: &[
        read("x", &["R", "C"]).half(),
        read("a", &["A", "6"]),
        read("b", &["G", "4"]),
        write("y", &["R", "C"]).half(),
    ],
    params: &PARAMS,
    variants: &elementwise::<ROWS>(include_str!("rational_fwd_vec4.wgsl"), include_str!("rational_fwd.wgsl")),
    reference,
    cpu,
    // Horner's rule and a division; where the terms of Q cancel, F is largest and their roundings stay.
    nmse: 1e-11,
    cases,
    gradients: &["rational_bwd_x", "rational_bwd_coefficients"],
    flops: |p| 21 * (p.dim("R") * p.dim("C")) as u64,
};

fn reference(p: &Params, v: &Values) -> Values {
    let y = |(i, x): (usize, &f64)| Point::new(p, &v["a"], &v["b"], i % p.dim("C"), *x).value;
    Values::from([("y", v["x"].iter().enumerate().map(y).collect())])
}

fn cpu(p: &Params, args: CpuArgs<'_>) {
    if p.dim("sum_abs") == 1 { apply::<true>(p, args) } else { apply::<false>(p, args) }
}

fn apply<const SUM_ABS: bool>(p: &Params, mut args: CpuArgs<'_>) {
    let (chunk, width) = (chunk(p.dim("C")), width(p));
    let (x, a, b, y) = (args.f32("x"), args.f32("a"), args.f32("b"), args.f32_mut("y"));
    let groups = Rational::<SUM_ABS>::groups(a, b);
    y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(y, x)| {
        vectorised(
            #[inline(always)]
            || {
                let slices = y.chunks_mut(width).zip(x.chunks(width));
                for ((y, x), f) in slices.zip(groups.iter().cycle()) {
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = f.value(*x));
                }
            },
        );
    });
}

fn cases() -> Vec<Case> {
    let shapes = [
        (1, 1, 1, 1),
        (5, 26, 2, 2),
        (35, 39, 3, 1),
        (7, 3, 3, 3),
        (19, 8, 2, 2),
        (33, 48, 3, 1),
        (150, 64, 4, 4),
        (9, 260, 1, 1),
        (18, 20, 4, 4),
        (33, 28, 4, 1),
    ];
    let mut cases: Vec<Case> =
        [0, 1].iter().flat_map(|form| shapes.map(|(r, c, g, a)| case(r, c, g, a, *form))).collect();
    // The identity, and zeros into any function.
    let identity = |p: &Params, _: &Values| [0.0, 1.0, 0.0, 0.0, 0.0, 0.0].repeat(p.dim("A"));
    for form in [0, 1] {
        cases.push(case(17, 32, 2, 1, form).fill("a", Fill::Derived(identity)).fill("b", Fill::Uniform(0.0, 0.0)));
        cases.push(case(3, 13, 1, 1, form).fill("x", Fill::Uniform(0.0, 0.0)));
    }
    cases
}
