//! Sums of segments in partial sums: the first stage of their means.

use rayon::prelude::*;

use crate::{
    Card, Case, CpuArgs, Fill, Param, Params, Values, indices, read,
    reduce::sum_of,
    segment::{self, chunk, extent},
    write,
};

/// See the module; `table` and S as in [`segment`].
pub static CARD: Card = Card {
    name: "segment_sum",
    args: &[read("x", &["N"]), indices("table", &["SEG", "2"]), write("partial", &["SEG", "S"])],
    params: &[Param::Dim("N"), Param::Dim("SEG"), Param::Dim("S")],
    variants: &segment::variants(include_str!("segment_sum.wgsl"), include_str!("segment_sum_vec4.wgsl")),
    reference,
    cpu,
    nmse: 1e-12,
    cases,
    gradients: &[],
    flops: |p| p.dim("N") as u64,
};

pub(crate) fn reference(p: &Params, v: &Values) -> Values {
    let chunks = p.dim("S");
    let mut partial = vec![0.0; p.dim("SEG") * chunks];
    for segment in 0..p.dim("SEG") {
        let x = segment::elements(v, segment);
        for (chunk, x) in x.chunks(segment::block(x.len(), chunks)).enumerate() {
            partial[segment * chunks + chunk] = x.iter().sum();
        }
    }
    Values::from([("partial", partial)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (x, table, partial, chunks) = (args.f32("x"), args.u32("table"), args.f32_mut("partial"), p.dim("S"));
    partial.par_iter_mut().enumerate().for_each(|(i, partial)| {
        let chunk = chunk(&extent(table, i / chunks), i % chunks, chunks);
        *partial = sum_of(&x[chunk], |x| x);
    });
}

fn cases() -> Vec<Case> {
    // A mean away from 0, so that the sums are not what is left after cancellation.
    segment::shapes().into_iter().map(|case| case.fill("x", Fill::Normal(1.0, 1.0))).collect()
}
