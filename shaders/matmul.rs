//! What the three matrix products share: y[m, n] (+)= sum_k x[m, k] * w[k, n], with x and w stored either way round.

use gemm::Parallelism;

use crate::{Class, CpuArgs, Device, Needs, Params, Values, Variant};

/// A product's extents, and the distances of its operands' elements in memory.
pub(crate) struct Product {
    /// Rows of y (M).
    pub(crate) rows: usize,
    /// Columns of y (N).
    pub(crate) columns: usize,
    /// Terms of a sum (K).
    pub(crate) depth: usize,
    /// Elements of x between neighbours in m, and in k.
    pub(crate) x: [usize; 2],
    /// Elements of w between neighbours in k, and in n.
    pub(crate) w: [usize; 2],
    /// Elements of y between its rows; those beyond `columns` are zeros.
    pub(crate) y_stride: usize,
}

impl Product {
    /// A multiplication and an addition per term.
    pub(crate) fn flops(&self) -> u64 {
        2 * (self.rows * self.columns * self.depth) as u64
    }

    /// The formula.
    pub(crate) fn reference(&self, v: &Values) -> Values {
        let (x, w) = (&v["x"], &v["w"]);
        let mut y = vec![0.0; self.rows * self.y_stride];
        for m in 0..self.rows {
            for n in 0..self.columns {
                for k in 0..self.depth {
                    y[m * self.y_stride + n] += x[m * self.x[0] + k * self.x[1]] * w[k * self.w[0] + n * self.w[1]];
                }
            }
        }
        Values::from([("y", y)])
    }

    /// The product on the CPU. Threads share out y but never a sum, so their number does not show in the result.
    pub(crate) fn cpu(&self, accumulate: bool, mut args: CpuArgs<'_>) {
        let (x, w, y) = (args.f32("x"), args.f32("w"), args.f32_mut("y"));
        let last =
            |[outer, inner]: [usize; 2], extents: [usize; 2]| outer * (extents[0] - 1) + inner * (extents[1] - 1);
        assert!(last(self.x, [self.rows, self.depth]) < x.len(), "matmul: x is too short");
        assert!(last(self.w, [self.depth, self.columns]) < w.len(), "matmul: w is too short");
        assert!(last([self.y_stride, 1], [self.rows, self.columns]) < y.len(), "matmul: y is too short");
        let [x_m, x_k] = self.x.map(|distance| distance as isize);
        let [w_k, w_n] = self.w.map(|distance| distance as isize);
        let y_m = self.y_stride as isize;
        // SAFETY: by the assertions every element that these extents and distances reach lies in its slice.
        unsafe {
            gemm::gemm(
                self.rows,
                self.columns,
                self.depth,
                y.as_mut_ptr(),
                1,
                y_m,
                accumulate,
                x.as_ptr(),
                x_k,
                x_m,
                w.as_ptr(),
                w_n,
                w_k,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::Rayon(0),
            );
        }
        if !accumulate {
            for row in y.chunks_mut(self.y_stride) {
                row[self.columns..].fill(0.0);
            }
        }
    }
}

/// Rows of a lane's tile in the texts that have a `const TM`: of `subgroup_broadcast` for many rows (in one or two arrays)
/// and for few, and of `direct`.
const BROADCAST_ROWS: u32 = 32;
const BROADCAST_FEW_ROWS: u32 = 8;
const DIRECT_ROWS: u32 = 8;

/// A subgroup per workgroup; x goes through shuffles. For rows of whole vec4s, which `fits` tells.
pub(crate) const fn subgroup_broadcast(wgsl: &'static str, fits: fn(&Params) -> bool) -> Variant {
    Variant {
        consts: &[("TM", BROADCAST_ROWS), ("ARRAYS", 1)],
        needs: Needs::Subgroup { min: 4, max: 128 },
        preferred_on: &[Class::Software],
        fits,
        ..Variant::portable(
            "subgroup_broadcast",
            wgsl,
            |p, device| tiles(p, BROADCAST_ROWS, broadcast_columns(device)),
            broadcast_iterations,
        )
    }
}

/// The same with twice the rows, for fewer loads per product. `fits` tells of both.
pub(crate) const fn subgroup_broadcast_many_rows(wgsl: &'static str, fits: fn(&Params) -> bool) -> Variant {
    Variant {
        name: "subgroup_broadcast_many_rows",
        consts: &[("TM", BROADCAST_ROWS), ("ARRAYS", 2)],
        groups: |p, device| tiles(p, 2 * BROADCAST_ROWS, broadcast_columns(device)),
        ..subgroup_broadcast(wgsl, fits)
    }
}

/// Whether there are outputs for four of its tiles and more, on subgroups of 16: fewer would not occupy the threads of a
/// small machine evenly.
pub(crate) fn many_rows(p: &Params) -> bool {
    p.dim("M") > BROADCAST_ROWS as usize && p.dim("M") * p.dim("N") >= 4 * 64 * 64
}

/// The same with the tile for generation: a handful of rows. `fits` tells of both.
pub(crate) const fn subgroup_broadcast_few_rows(wgsl: &'static str, fits: fn(&Params) -> bool) -> Variant {
    Variant {
        name: "subgroup_broadcast_few_rows",
        consts: &[("TM", BROADCAST_FEW_ROWS), ("ARRAYS", 1)],
        groups: |p, device| tiles(p, BROADCAST_FEW_ROWS, broadcast_columns(device)),
        ..subgroup_broadcast(wgsl, fits)
    }
}

/// Whether there are only rows for one tile of few.
pub(crate) fn few_rows(p: &Params) -> bool {
    p.dim("M") <= BROADCAST_FEW_ROWS as usize
}

/// Tiles in workgroup memory, for any shape.
pub(crate) const fn workgroup_tile(wgsl: &'static str) -> Variant {
    let iterations = |p: &Params, _: &Device| (p.dim("K") as u64).div_ceil(16) * (1 + 4 + 16) + 16;
    Variant {
        preferred_on: &[Class::Integrated, Class::Discrete],
        ..Variant::portable("workgroup_tile", wgsl, |p, _| tiles(p, 64, 64), iterations)
    }
}

/// A tile per lane and nothing shared. For rows of whole vec4s, which `fits` tells.
pub(crate) const fn direct(wgsl: &'static str, fits: fn(&Params) -> bool) -> Variant {
    Variant {
        consts: &[("TM", DIRECT_ROWS)],
        preferred_on: &[Class::Software],
        fits,
        ..Variant::portable(
            "direct",
            wgsl,
            |p, _| tiles(p, DIRECT_ROWS, 4).div_ceil(64),
            |p, _| p.dim("K") as u64 + u64::from(DIRECT_ROWS),
        )
    }
}

/// An output per lane, for any shape.
pub(crate) const fn scalar(wgsl: &'static str) -> Variant {
    Variant::portable("scalar", wgsl, |p, _| tiles(p, 1, 1).div_ceil(64), |p, _| p.dim("K") as u64)
}

/// Tiles of so many outputs that cover y, padding included.
fn tiles(p: &Params, rows: u32, columns: u32) -> u64 {
    let stored = if p.get("y_stride").is_some() { p.dim("y_stride") } else { p.dim("N") };
    (p.dim("M") as u64).div_ceil(rows.into()) * (stored as u64).div_ceil(columns.into())
}

fn broadcast_columns(device: &Device) -> u32 {
    4 * device.subgroup_size.unwrap_or(1)
}

/// The steps in k, for the loops over a tile's rows are unrolled (cases of long sums would show it if they were not); and
/// those before and after.
fn broadcast_iterations(p: &Params, _: &Device) -> u64 {
    (p.dim("K") as u64).div_ceil(4) + 4 * u64::from(BROADCAST_ROWS)
}

/// Shapes that every product is tried on, as (M, N, K): for each variant; beyond tiles on all sides; vectors, and one
/// number; and a sum so long that lavapipe would cut it short if a tile's loops counted.
pub(crate) const SHAPES: [(usize, usize, usize); 11] = [
    (1, 1, 1),
    (3, 5, 7),
    (65, 67, 33),
    (1, 36, 64),
    (7, 132, 20),
    (8, 4, 4),
    (33, 40, 12),
    (70, 132, 68),
    (129, 64, 32),
    (100, 180, 36),
    (9, 8, 13_200),
];
