//! What the three matrix products share: y[m, n] (+)= sum_k x[m, k] * w[k, n], with x and w stored either way round.

use gemm::Parallelism;

use crate::{Backends, Class, CpuArgs, Device, Needs, Params, Values, Variant};

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

/// A configuration of the texts with tiles in workgroup memory, and where it is used.
struct Tile {
    name: &'static str,
    /// Outputs of a workgroup (M, N), steps of k in memory, blocks of 4 by 4 outputs that a lane has each way, teams of
    /// lanes that share the steps.
    consts: &'static [(&'static str, u32); 5],
    preferred_on: &'static [Class],
    fewest_groups: u64,
}

impl Tile {
    const fn lanes(&self) -> u32 {
        self.consts[0].1 * self.consts[1].1 / (16 * self.consts[3].1 * self.consts[3].1) * self.consts[4].1
    }

    fn groups(&self, p: &Params) -> u64 {
        tiles(p, self.consts[0].1, self.consts[1].1)
    }

    /// The steps of a team, and what a lane loads.
    fn iterations(&self, p: &Params) -> u64 {
        let [(_, rows), (_, columns), (_, depth), _, (_, slices)] = *self.consts;
        let loads = ((rows + columns) * depth / 16).div_ceil(self.lanes());
        (p.dim("K") as u64).div_ceil(depth.into()) * u64::from(1 + loads + depth / slices) + u64::from(slices)
    }
}

/// What a GPU multiplies with, the first that is wanted. Chosen from published figures, measured on none:
///
/// | name     | for                                | why |
/// |----------|------------------------------------|-----|
/// | tile_128 | discrete, y of 2^21 elements on    | 8 x 8 outputs a lane read 4 vec4s of workgroup memory for 64 fma, the ratio that plain shaders reach 70 % of f32 peak with (wgpu-mm, issue 20); 128 x 128 a group halve what 64 x 64 read of the L2; 128 groups of 256 lanes fill some 60 cores |
/// | tile_64  | integrated, y of 2^17 elements on  | 8 x 8 a lane again, in half the workgroup memory and a quarter of the lanes: 32 groups for the 8 to 40 cores of such a chip |
/// | tile_64_narrow | discrete, y of 2^18 elements on | 4 x 4 a lane: four times the lanes where tile_128 leaves cores without work (64 x 64, 4 x 4 and k 32 are meganeura's) |
/// | tile_32  | both, what is smaller              | four teams share the sum over k: 16 times the lanes of 8 x 8; this is split-K without a second pass or memory, for dw = dy^T x where K is B T and y is small |
///
/// Every one is within 16 KiB of workgroup memory and 256 lanes. No second buffer in flight: on an RTX 3050 it made
/// such a kernel slower (22 to 28 ms, meganeura's notes).
static TILES: [Tile; 4] = [
    Tile {
        name: "tile_128",
        consts: &[("BM", 128), ("BN", 128), ("BK", 16), ("BLOCKS", 2), ("SLICES", 1)],
        preferred_on: &[Class::Discrete],
        fewest_groups: 128,
    },
    Tile {
        name: "tile_64",
        consts: &[("BM", 64), ("BN", 64), ("BK", 16), ("BLOCKS", 2), ("SLICES", 1)],
        preferred_on: &[Class::Integrated],
        fewest_groups: 32,
    },
    Tile {
        name: "tile_64_narrow",
        consts: &[("BM", 64), ("BN", 64), ("BK", 32), ("BLOCKS", 1), ("SLICES", 1)],
        preferred_on: &[Class::Discrete],
        fewest_groups: 64,
    },
    Tile {
        name: "tile_32",
        consts: &[("BM", 32), ("BN", 32), ("BK", 64), ("BLOCKS", 1), ("SLICES", 4)],
        preferred_on: &[Class::Integrated, Class::Discrete],
        fewest_groups: 0,
    },
];

/// Configuration `T` of [`TILES`]. For rows of whole vec4s, which `fits` tells.
pub(crate) const fn workgroup_tile<const T: usize>(wgsl: &'static str, fits: fn(&Params) -> bool) -> Variant {
    Variant {
        consts: TILES[T].consts,
        preferred_on: TILES[T].preferred_on,
        fewest_groups: TILES[T].fewest_groups,
        fits,
        ..Variant::portable(TILES[T].name, wgsl, |p, _| TILES[T].groups(p), |p, _| TILES[T].iterations(p))
    }
}

/// Outputs of a workgroup of the texts with cooperative matrices (M, N): with sums in f32 what 16 KiB have room for.
const COOPERATIVE_ROWS: u32 = 64;
const COOPERATIVE_COLUMNS: u32 = 32;

/// Squares of 8 by 8 or 16 by 16 that a subgroup multiplies as one, where [`workgroup_tile`]'s text has a lane's sums. For
/// rows of whole vec4s, which `fits` tells. With fewer than 16 workgroups it does not pay (meganeura's notes). A quad of
/// 2 x 2 squares reads a square of x or w for every two products; two of 16 x 16 a workgroup keep 64 lanes busy
/// (meganeura's), eight of 8 x 8 128 lanes. Chosen from published figures, measured on no GPU.
pub(crate) const fn cooperative<const SIDE: u32>(wgsl: &'static str, fits: fn(&Params) -> bool) -> Variant {
    let (name, includes, consts): (_, &[_], &[_]) = if SIDE == 8 {
        ("cooperative_8", &[COOPERATIVE_8], &[ROWS, COLUMNS, ("BK", 16), ("SIDE", 8), ("LANES", 128)])
    } else {
        ("cooperative_16", &[COOPERATIVE_16], &[ROWS, COLUMNS, ("BK", 32), ("SIDE", 16), ("LANES", 64)])
    };
    Variant {
        includes,
        consts,
        needs: Needs::CooperativeMatrix { side: SIDE },
        native_only: true,
        preferred_on: &[Class::Integrated, Class::Discrete],
        fewest_groups: 16,
        fits,
        backends: Backends::cooperative(SIDE),
        ..Variant::portable(
            name,
            wgsl,
            |p, _| tiles(p, COOPERATIVE_ROWS, COOPERATIVE_COLUMNS),
            // Steps of two squares, with what a lane loads and the quads of a subgroup; sums to clear and to put. At
            // most, which is with squares of 8 and with subgroups as large as the workgroup.
            |p, _| (p.dim("K") as u64).div_ceil(16) * (1 + 3 + 8) + 64,
        )
    }
}

const ROWS: (&str, u32) = ("BM", COOPERATIVE_ROWS);
const COLUMNS: (&str, u32) = ("BN", COOPERATIVE_COLUMNS);
const COOPERATIVE_8: (&str, &[&str]) = ("matmul_tile", &["matmul_cooperative", "cooperative", "cooperative_8"]);
const COOPERATIVE_16: (&str, &[&str]) = ("matmul_tile", &["matmul_cooperative", "cooperative", "cooperative_16"]);

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
/// number; a sum so long that lavapipe would cut it short if a tile's loops counted; and more than eight tiles in m, where
/// the order of tiles has a second band.
pub(crate) const SHAPES: [(usize, usize, usize); 12] = [
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
    (1090, 72, 8),
];

#[cfg(test)]
mod tests {
    use crate::{Class, Device, Params, Precision, matmul_nn, matmul_nt, matmul_tn};

    /// The table above `TILES`, by example.
    #[test]
    fn variants_are_chosen_by_class_and_extents() {
        for (class, subgroup_size, [m, n, k], expected) in [
            (Class::Discrete, Some(32), [4096, 2048, 768], "tile_128"),
            (Class::Discrete, None, [4096, 2048, 768], "tile_128"),
            (Class::Discrete, Some(32), [2048, 688, 256], "tile_64_narrow"),
            (Class::Discrete, Some(32), [256, 688, 2048], "tile_32"),
            (Class::Integrated, Some(32), [4096, 2048, 768], "tile_64"),
            (Class::Integrated, None, [1024, 128, 128], "tile_64"),
            (Class::Integrated, None, [128, 128, 1024], "tile_32"),
            (Class::Discrete, Some(32), [1, 2048, 768], "tile_32"),
            (Class::Discrete, Some(32), [4096, 2048, 770], "scalar"),
            (Class::Software, Some(8), [4096, 2048, 768], "subgroup_broadcast_many_rows"),
            (Class::Software, Some(8), [1, 2048, 768], "subgroup_broadcast_few_rows"),
            (Class::Software, None, [4096, 2048, 768], "direct"),
        ] {
            let params = Params::dims([("M", m), ("N", n), ("K", k), ("y_stride", n)]);
            let device = Device { class, subgroup_size, ..Device::PORTABLE };
            let precisions = if k.is_multiple_of(4) { matmul_nt::CARD.precisions() } else { vec![Precision::F32] };
            for precision in precisions {
                let chosen = matmul_nt::CARD.variant(&device, &params, precision).map(|variant| variant.name);
                assert_eq!(chosen, Some(expected), "{device:?} {params} {precision:?}");
            }
        }
    }

    /// Cooperative matrices take the place of the tiles for what is large and in half precision, where there are any.
    #[test]
    fn cooperative_matrices_are_for_large_products_in_half_precision() {
        let with = |class, side| Device { class, f16: true, cooperative_matrix: Some(side), ..Device::PORTABLE };
        let discrete = with(Class::Discrete, 16);
        for (device, [m, n, k], mixed, whole) in [
            (discrete, [4096, 2048, 768], "cooperative_16", "tile_128"),
            (discrete, [2048, 688, 256], "cooperative_16", "tile_64_narrow"),
            // Sixteen workgroups, and one less.
            (discrete, [1024, 32, 256], "cooperative_16", "tile_32"),
            (discrete, [960, 32, 256], "tile_32", "tile_32"),
            (discrete, [1, 256, 768], "tile_32", "tile_32"),
            (with(Class::Discrete, 8), [4096, 2048, 768], "cooperative_8", "tile_128"),
            (with(Class::Integrated, 8), [1024, 128, 128], "cooperative_8", "tile_64"),
            (Device { cooperative_matrix: None, ..discrete }, [4096, 2048, 768], "tile_128", "tile_128"),
            // Halves that are packed.
            (Device { f16: false, ..discrete }, [4096, 2048, 768], "tile_128", "tile_128"),
            (with(Class::Software, 8), [4096, 2048, 768], "direct", "direct"),
        ] {
            for card in [&matmul_nt::CARD, &matmul_nn::CARD, &matmul_tn::CARD] {
                let dims = [("M", m), ("N", n), ("K", k), ("y_stride", n)];
                let stride = if card.name == "matmul_tn" { usize::next_multiple_of(m, 4) } else { k };
                let params = Params::dims(dims).with_dim("x_stride", stride);
                for precision in card.precisions() {
                    let expected = if precision == Precision::F32 { whole } else { mixed };
                    let chosen = card.variant(&device, &params, precision).map(|variant| variant.name);
                    assert_eq!(chosen, Some(expected), "{} {device:?} {params} {precision:?}", card.name);
                }
            }
        }
    }
}
