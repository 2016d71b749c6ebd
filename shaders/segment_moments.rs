//! Second and fourth central moments of segments, and their largest magnitudes, in partial sums: the second stage of
//! their statistics. The means come first, so that no digits cancel in sum x^2 - n mean^2.

use rayon::prelude::*;

use crate::{
    Card, Case, CpuArgs, Fill, Param, Params, Values, indices, read,
    reduce::sum_of,
    segment::{self, chunk, extent},
    segment_sum, write,
};

/// Without the sign, the bits of an f32 are in the order of the magnitudes.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// See the module; `table` and S as in [`segment`], `partial` as of `segment_sum`.
///
/// d^4 is lost below |d| = 3e-10 and infinite above 4e9.
pub static CARD: Card = Card {
    name: "segment_moments",
    args: &[
        read("x", &["N"]),
        indices("table", &["SEG", "2"]),
        read("partial", &["SEG", "S"]),
        write("moments", &["SEG", "S", "3"]),
    ],
    params: &[Param::Dim("N"), Param::Dim("SEG"), Param::Dim("S")],
    variants: &segment::variants(include_str!("segment_moments.wgsl"), include_str!("segment_moments_vec4.wgsl")),
    reference,
    cpu,
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| 7 * p.dim("N") as u64,
};

pub(crate) fn reference(p: &Params, v: &Values) -> Values {
    let chunks = p.dim("S");
    let mut moments = Vec::new();
    for segment in 0..p.dim("SEG") {
        let x = segment::elements(v, segment);
        let mean = v["partial"][segment * chunks..][..chunks].iter().sum::<f64>() / x.len() as f64;
        let mut blocks = x.chunks(segment::block(x.len(), chunks));
        for _ in 0..chunks {
            let block = blocks.next().unwrap_or_default();
            let moment = |power: i32| block.iter().map(|x| (x - mean).powi(power)).sum::<f64>();
            moments.extend([moment(2), moment(4), block.iter().fold(0.0, |largest, x| x.abs().max(largest))]);
        }
    }
    Values::from([("moments", moments)])
}

fn cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (x, table, chunks) = (args.f32("x"), args.u32("table"), p.dim("S"));
    let (partial, moments) = (args.f32("partial"), args.f32_mut("moments"));
    moments.par_chunks_mut(3).enumerate().for_each(|(i, moments)| {
        let extent = extent(table, i / chunks);
        let x = &x[chunk(&extent, i % chunks, chunks)];
        let sum = sum_of(&partial[i / chunks * chunks..][..chunks], |partial| partial);
        let mean = sum / extent.len() as f32;
        moments[0] = sum_of(x, |x| (x - mean) * (x - mean));
        moments[1] = sum_of(x, |x| {
            let square = (x - mean) * (x - mean);
            square * square
        });
        moments[2] = f32::from_bits(x.iter().map(|x| x.to_bits() & MAGNITUDE).max().unwrap_or(0));
    });
}

fn cases() -> Vec<Case> {
    let centred = segment::shapes();
    let off_centre = segment::shapes().into_iter().map(|case| case.fill("x", Fill::Normal(3.0, 1.0)));
    let partial = Fill::Derived(|p, v| segment_sum::reference(p, v)["partial"].clone());
    centred.into_iter().chain(off_centre).map(|case| case.fill("partial", partial)).collect()
}
