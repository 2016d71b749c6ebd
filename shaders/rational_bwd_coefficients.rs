//! The group-rational activation, gradients to its coefficients, first stage: partial sums per tile of rows and group,
//! which `column_sum` adds up.
//!
//! `da_partial` is (S, G, 6): where all groups share one numerator, the groups' parts are rows of that sum too, S G of 6
//! columns; else it is S rows of G 6 columns. `db_partial` is S rows of G 4 columns.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::{
    Card, Case, Class, CpuArgs, Device, Needs, Param, Params, Values, Variant,
    rational::{DENOMINATOR, LANES, NUMERATOR, PARAMS, Point, Rational, in_fours, sgn, smooth_cases, width},
    read, write,
};

/// Elements of a tile, of one group: a lane takes at least 32 fours of them, which outweighs the sum over lanes at the end.
const TILE: usize = 1 << 13;

const COEFFICIENTS: usize = NUMERATOR + DENOMINATOR;

/// The number of tiles `S` that suits so many rows of groups of so many channels.
pub fn tiles(rows: usize, width: usize) -> usize {
    rows.div_ceil((TILE / width).max(1))
}

/// By fours of columns, for one of the forms; a group may begin and end within a four.
const VEC4: Variant = Variant::portable("", include_str!("rational_bwd_coefficients_vec4.wgsl"), parts, |p, _| {
    walk(p, LANES) + LANES / 4
});

/// The same with a subgroup of 16 lanes as the workgroup: on lavapipe with 512-bit vectors 0.56 to 0.81 times as long.
const SUBGROUP: Variant = Variant {
    includes: &[("rational_total_workgroup", &["rational_total_subgroup"])],
    consts: &[("LANES", SUBGROUP_LANES)],
    needs: Needs::Subgroup { min: SUBGROUP_LANES, max: SUBGROUP_LANES },
    preferred_on: &[Class::Software],
    iterations: |p, _| walk(p, u64::from(SUBGROUP_LANES)) + u64::from(SUBGROUP_LANES),
    ..VEC4
};

const SUBGROUP_LANES: u32 = 16;

/// See the module.
pub static CARD: Card = Card {
    name: "rational_bwd_coefficients",
    args: &[
        read("dy", &["R", "C"]).half(),
        read("x", &["R", "C"]).half(),
        read("a", &["A", "6"]),
        read("b", &["G", "4"]),
        write("da_partial", &["S*G/A", "A*6"]),
        write("db_partial", &["S", "G*4"]),
    ],
    params: &{
        let [r, c, g, a, form] = PARAMS;
        [r, c, g, a, form, Param::Dim("S")]
    },
    variants: &[
        Variant { name: "subgroup_abs_sum", overrides: &[("SUM_ABS", 0.0)], fits: |p| in_fours(p, 0), ..SUBGROUP },
        Variant { name: "subgroup_sum_abs", overrides: &[("SUM_ABS", 1.0)], fits: |p| in_fours(p, 1), ..SUBGROUP },
        Variant { name: "vec4_abs_sum", overrides: &[("SUM_ABS", 0.0)], fits: |p| in_fours(p, 0), ..VEC4 },
        Variant { name: "vec4_sum_abs", overrides: &[("SUM_ABS", 1.0)], fits: |p| in_fours(p, 1), ..VEC4 },
        Variant::portable("scalar", include_str!("rational_bwd_coefficients.wgsl"), parts, |p, _| {
            let fours = p.dim("R").div_ceil(p.dim("S")).div_ceil(4) * width(p);
            (fours as u64).div_ceil(LANES) + LANES / 4
        }),
    ],
    reference,
    cpu,
    // Terms as of the gradient to x, in sums of some thousands.
    nmse: 1e-11,
    cases,
    gradients: &[],
    flops: |p| 45 * (p.dim("R") * p.dim("C")) as u64,
};

/// A workgroup for every tile of every group.
fn parts(p: &Params, _: &Device) -> u64 {
    (p.dim("S") * p.dim("G")) as u64
}

/// Iterations of one of so many lanes that walk a tile by fours of columns.
fn walk(p: &Params, lanes: u64) -> u64 {
    let fours = p.dim("R").div_ceil(p.dim("S")) * (width(p) / 4 + 2);
    (fours as u64).div_ceil(lanes)
}

fn reference(p: &Params, v: &Values) -> Values {
    let (rows, channels, groups, tiles) = (p.dim("R"), p.dim("C"), p.dim("G"), p.dim("S"));
    let (mut da, mut db) = (vec![0.0; tiles * groups * NUMERATOR], vec![0.0; tiles * groups * DENOMINATOR]);
    for (i, (dy, x)) in v["dy"].iter().zip(&v["x"]).enumerate() {
        let (row, channel) = (i / channels, i % channels);
        let part = row / rows.div_ceil(tiles) * groups + channel / width(p);
        let point = Point::new(p, &v["a"], &v["b"], channel, *x);
        for (k, slope) in point.da.iter().enumerate() {
            da[part * NUMERATOR + k] += dy * slope;
        }
        for (k, slope) in point.db.iter().enumerate() {
            db[part * DENOMINATOR + k] += dy * slope;
        }
    }
    Values::from([("da_partial", da), ("db_partial", db)])
}

fn cpu(p: &Params, args: CpuArgs<'_>) {
    if p.dim("sum_abs") == 1 { sum::<true>(p, args) } else { sum::<false>(p, args) }
}

fn sum<const SUM_ABS: bool>(p: &Params, mut args: CpuArgs<'_>) {
    let (channels, groups, width) = (p.dim("C"), p.dim("G"), width(p));
    let tile = p.dim("R").div_ceil(p.dim("S")) * channels;
    let (dy, x, a, b) = (args.f32("dy"), args.f32("x"), args.f32("a"), args.f32("b"));
    let functions = Rational::<SUM_ABS>::groups(a, b);
    let da = args.f32_mut("da_partial").par_chunks_mut(groups * NUMERATOR);
    let db = args.f32_mut("db_partial").par_chunks_mut(groups * DENOMINATOR);
    da.zip(db).enumerate().for_each(|(s, (da, db))| {
        let elements = (s * tile).min(x.len())..((s + 1) * tile).min(x.len());
        let (dy, x) = (&dy[elements.clone()], &x[elements]);
        for (group, f) in functions.iter().enumerate() {
            let total = Arch::new().dispatch(Tile { f, dy, x, channels, columns: group * width..(group + 1) * width });
            let signs = &b[group * DENOMINATOR..];
            da[group * NUMERATOR..][..NUMERATOR].copy_from_slice(&total[..NUMERATOR]);
            for (j, db) in db[group * DENOMINATOR..][..DENOMINATOR].iter_mut().enumerate() {
                *db = total[NUMERATOR + j] * if SUM_ABS { sgn(signs[j]) } else { 1.0 };
            }
        }
    });
}

/// The columns of one group, in the rows of one tile. Its sum is written in explicit vectors: in loops over arrays the
/// compiler keeps the lanes side by side in some builds, and in others takes four times as long.
struct Tile<'a, const SUM_ABS: bool> {
    f: &'a Rational<SUM_ABS>,
    dy: &'a [f32],
    x: &'a [f32],
    channels: usize,
    columns: Range<usize>,
}

impl<const SUM_ABS: bool> WithSimd for Tile<'_, SUM_ABS> {
    /// Gradients to a0..a5 and b1..b4; in the form `sum_abs`, to the magnitudes of b.
    type Output = [f32; COEFFICIENTS];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let mut sums = [simd.splat_f32s(0.0); COEFFICIENTS];
        for (dy, x) in self.dy.chunks(self.channels).zip(self.x.chunks(self.channels)) {
            let (dy, dy_rest) = S::as_simd_f32s(&dy[self.columns.clone()]);
            let (x, x_rest) = S::as_simd_f32s(&x[self.columns.clone()]);
            for (dy, x) in dy.iter().zip(x) {
                add_gradients(simd, &mut sums, self.f, *dy, *x);
            }
            if !x_rest.is_empty() {
                // Zeros fill the vector up, and bring nothing.
                let (dy, x) = (simd.partial_load_f32s(dy_rest), simd.partial_load_f32s(x_rest));
                add_gradients(simd, &mut sums, self.f, dy, x);
            }
        }
        sums.map(|sum| simd.reduce_sum_f32s(sum))
    }
}

/// Adds the gradients of a vector of elements.
#[inline(always)]
fn add_gradients<S: Simd, const SUM_ABS: bool>(
    simd: S,
    sums: &mut [S::f32s; COEFFICIENTS],
    f: &Rational<SUM_ABS>,
    dy: S::f32s,
    x: S::f32s,
) {
    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    let horner = |coefficients: &[f32], x| {
        let terms = coefficients.iter().rev().map(|c| simd.splat_f32s(*c));
        terms.reduce(|sum, c| simd.mul_add_e_f32s(sum, x, c)).unwrap_or(zero)
    };
    let t = if SUM_ABS { simd.abs_f32s(x) } else { x };
    let inner = simd.mul_f32s(horner(&f.b, t), t);
    let reciprocal = simd.div_f32s(one, simd.add_f32s(one, simd.abs_f32s(inner)));
    let (to_a, to_b) = sums.split_at_mut(NUMERATOR);
    let mut term = simd.mul_f32s(dy, reciprocal);
    let value = simd.mul_f32s(term, simd.mul_f32s(horner(&f.a, x), reciprocal));
    for sum in to_a {
        *sum = simd.add_f32s(*sum, term);
        term = simd.mul_f32s(term, x);
    }
    let mut term = simd.select_f32s(simd.less_than_f32s(inner, zero), value, simd.neg_f32s(value));
    for sum in to_b {
        term = simd.mul_f32s(term, t);
        *sum = simd.add_f32s(*sum, term);
    }
}

fn cases() -> Vec<Case> {
    // Tiles of one row and of all, and 5 tiles of 2 rows over 7, of which the last has none.
    let tiles = |case: Case| {
        let rows = case.params.dim("R");
        let s = [1, 2, 5, rows][(rows + case.params.dim("C")) % 4];
        Case { params: case.params.with_dim("S", s), ..case }
    };
    smooth_cases().into_iter().map(tiles).collect()
}
