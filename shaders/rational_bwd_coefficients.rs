//! The group-rational activation, gradients to its coefficients, first stage: partial sums per tile of rows and group,
//! which `column_sum` adds up.
//!
//! `da_partial` is (S, G, 6): where all groups share one numerator, the groups' parts are rows of that sum too, S G of 6
//! columns; else it is S rows of G 6 columns. `db_partial` is S rows of G 4 columns.

use rayon::prelude::*;

use crate::{
    Card, Case, CpuArgs, Device, Param, Params, Values, Variant,
    rational::{DENOMINATOR, LANES, NUMERATOR, PARAMS, Point, Rational, sgn, smooth_cases, variants, width},
    read, write,
};

/// Elements of a tile, of one group: a lane takes 32 fours of them, which outweighs the sum over lanes at the end.
const TILE: usize = 1 << 13;

/// Neighbours whose sums the CPU kernel keeps apart.
const BLOCK: usize = 8;

/// The number of tiles `S` that suits so many rows of groups of so many channels.
pub fn tiles(rows: usize, width: usize) -> usize {
    rows.div_ceil((TILE / width).max(1))
}

/// See the module.
pub static CARD: Card = Card {
    name: "rational_bwd_coefficients",
    args: &[
        read("dy", &["R", "C"]),
        read("x", &["R", "C"]),
        read("a", &["A", "6"]),
        read("b", &["G", "4"]),
        write("da_partial", &["S*G/A", "A*6"]),
        write("db_partial", &["S", "G*4"]),
    ],
    params: &{
        let [r, c, g, a, form] = PARAMS;
        [r, c, g, a, form, Param::Dim("S")]
    },
    variants: &variants(
        Variant::portable("", include_str!("rational_bwd_coefficients_vec4.wgsl"), parts, |p, _| {
            iterations(p.dim("R").div_ceil(p.dim("S")), width(p) / 4)
        }),
        Variant::portable("scalar", include_str!("rational_bwd_coefficients.wgsl"), parts, |p, _| {
            iterations(p.dim("R").div_ceil(p.dim("S")).div_ceil(4), width(p))
        }),
    ),
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

/// Of a lane that walks a tile of so many fours per column, then sums the lanes' sums by fours.
fn iterations(fours: usize, columns: usize) -> u64 {
    ((fours * columns) as u64).div_ceil(LANES) + LANES / 4
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
            let mut sums = [[0.0; BLOCK]; NUMERATOR + DENOMINATOR];
            let own = group * width..(group + 1) * width;
            for (dy, x) in dy.chunks(channels).zip(x.chunks(channels)) {
                add_row(&mut sums, f, &dy[own.clone()], &x[own.clone()]);
            }
            let total = sums.map(|lanes| lanes.iter().sum::<f32>());
            let signs = &b[group * DENOMINATOR..];
            da[group * NUMERATOR..][..NUMERATOR].copy_from_slice(&total[..NUMERATOR]);
            for (j, db) in db[group * DENOMINATOR..][..DENOMINATOR].iter_mut().enumerate() {
                *db = total[NUMERATOR + j] * if SUM_ABS { sgn(signs[j]) } else { 1.0 };
            }
        }
    });
}

/// A sum per coefficient and lane.
type Sums = [[f32; BLOCK]; NUMERATOR + DENOMINATOR];

/// Adds the gradients of a group's columns of one row.
#[inline(always)]
fn add_row<const SUM_ABS: bool>(sums: &mut Sums, f: &Rational<SUM_ABS>, dy: &[f32], x: &[f32]) {
    let ((dy_blocks, dy_rest), (x_blocks, x_rest)) = (dy.as_chunks(), x.as_chunks());
    dy_blocks.iter().zip(x_blocks).for_each(|(dy, x)| add_block(sums, f, dy, x));
    if !x_rest.is_empty() {
        // Zeros bring nothing.
        let (mut dy, mut x) = ([0.0; BLOCK], [0.0; BLOCK]);
        dy[..dy_rest.len()].copy_from_slice(dy_rest);
        x[..x_rest.len()].copy_from_slice(x_rest);
        add_block(sums, f, &dy, &x);
    }
}

/// Indexed: over iterators the compiler does not keep the lanes side by side, and takes five times as long.
#[inline(always)]
fn add_block<const SUM_ABS: bool>(sums: &mut Sums, f: &Rational<SUM_ABS>, dy: &[f32; BLOCK], x: &[f32; BLOCK]) {
    for lane in 0..BLOCK {
        let terms = f.gradients(dy[lane], x[lane]);
        for k in 0..NUMERATOR + DENOMINATOR {
            sums[k][lane] += terms[k];
        }
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
