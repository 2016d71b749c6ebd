//! What the attention kernels share: their shape, the reference's scores, and the CPU kernels' tile product.
//!
//! Query head h reads key head h / (H / KV), as Hugging Face's `repeat_kv`.

use gemm::Parallelism;

use crate::{
    Case, Class, Device, Fill, Needs, Param, Params, Values, Variant, attention_fwd, exp::exp, reduce,
    vector::vectorised,
};

/// The params of the attention kernels.
pub(crate) const PARAMS: &[Param] = &[
    Param::Dim("B"),
    Param::Dim("T"),
    Param::Dim("H"),
    Param::Dim("KV"),
    Param::Dim("D"),
    Param::Dim("causal"),
    Param::Scalar("scale"),
];

/// Query rows, or keys, of one subgroup in the subgroup variants; their `ROWS`.
const SUBGROUP_ROWS: usize = 16;

/// Keys, or query rows, that the subgroup variants walk at once: 4 for each of 8 lanes.
const SUBGROUP_BLOCK: usize = 32;

/// Lanes of a workgroup in the variants with a row per lane.
const LANES: u64 = 64;

/// [`PARAMS`] as Rust values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    pub(crate) time: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) channels: usize,
    pub(crate) causal: bool,
    pub(crate) scale: f32,
}

impl Shape {
    pub(crate) fn of(p: &Params) -> Self {
        Self {
            batch: p.dim("B"),
            time: p.dim("T"),
            heads: p.dim("H"),
            kv_heads: p.dim("KV"),
            channels: p.dim("D"),
            causal: p.dim("causal") != 0,
            scale: p.scalar("scale"),
        }
    }

    /// Query heads that share a key head.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Keys that query `t` sees: those before this one.
    pub(crate) fn visible(&self, t: usize) -> usize {
        if self.causal { t + 1 } else { self.time }
    }

    /// The first query that sees key `s`.
    pub(crate) fn first_query(&self, s: usize) -> usize {
        if self.causal { s } else { 0 }
    }

    /// Where (b, t, head) begins in a (B, T, heads, D) tensor.
    pub(crate) fn row(&self, heads: usize, [b, t, head]: [usize; 3]) -> usize {
        ((b * self.time + t) * heads + head) * self.channels
    }

    /// Where (b, h, t) is in a (B, H, T) tensor.
    pub(crate) fn scalar(&self, [b, t, h]: [usize; 3]) -> usize {
        (b * self.heads + h) * self.time + t
    }

    /// Every (b, t, h), in the order of a (B, T, H) tensor.
    pub(crate) fn queries(&self) -> impl Iterator<Item = [usize; 3]> + use<> {
        let Self { batch, time, heads, .. } = *self;
        (0..batch).flat_map(move |b| (0..time).flat_map(move |t| (0..heads).map(move |h| [b, t, h])))
    }

    /// Floating-point operations of `products` matrix products over all pairs of a query and a key that it sees.
    pub(crate) fn flops(&self, products: u64) -> u64 {
        let pairs = if self.causal { self.time * (self.time + 1) / 2 } else { self.time * self.time };
        2 * products * (self.batch * self.heads * pairs * self.channels) as u64
    }
}

/// Products of rows of one tensor with rows of another, as the reference needs them: sum over d of a[at, d] b[bt, d].
pub(crate) fn dot(a: &[f64], b: &[f64], channels: usize, at: usize, bt: usize) -> f64 {
    a[at..at + channels].iter().zip(&b[bt..bt + channels]).map(|(a, b)| a * b).sum()
}

/// A variant for software drivers whose subgroups have 8 lanes.
pub(crate) const fn subgroup(
    name: &'static str,
    wgsl: &'static str,
    consts: &'static [(&'static str, u32)],
    fits: fn(&Params) -> bool,
    groups: fn(&Params, &Device) -> u64,
    iterations: fn(&Params, &Device) -> u64,
) -> Variant {
    Variant {
        consts,
        needs: Needs::Subgroup { min: 8, max: 8 },
        preferred_on: &[Class::Software],
        fits,
        ..Variant::portable(name, wgsl, groups, iterations)
    }
}

/// Rows of one subgroup in the variants that turn the scores through workgroup memory; their `ROWS`.
const TURNED_ROWS: usize = 32;

/// Rows of the other side that those walk at once: 4 for each of 16 lanes.
const TURNED_BLOCK: usize = 64;

/// A variant for software drivers whose subgroups have 16 lanes: lavapipe with 512-bit vectors. There a barrier of the
/// workgroup would take its kernel apart into coroutines, which takes 1.4 to 1.7 times as long.
pub(crate) const fn turned(
    name: &'static str,
    wgsl: &'static str,
    consts: &'static [(&'static str, u32)],
    fits: fn(&Params) -> bool,
    groups: fn(&Params, &Device) -> u64,
    iterations: fn(&Params, &Device) -> u64,
) -> Variant {
    Variant {
        consts,
        needs: Needs::SubgroupBarrier { lanes: 16 },
        preferred_on: &[Class::Software],
        fits,
        ..Variant::portable(name, wgsl, groups, iterations)
    }
}

/// Iterations of such a variant that walks `walked` rows of the other side, in `products` products with them.
pub(crate) fn turned_iterations(walked: usize) -> u64 {
    let (blocks, rows) = (walked.div_ceil(TURNED_BLOCK) as u64, TURNED_ROWS as u64);
    3 * rows + blocks * (1 + 3 * rows + 16 + 2 * 16) // at most 16 steps over a row's channels, 16 over the block for each product
}

/// Subgroups for the queries of every (b, kv).
pub(crate) fn turned_query_tiles(p: &Params, _: &Device) -> u64 {
    let shape = Shape::of(p);
    (shape.batch * shape.kv_heads * (shape.time * shape.group()).div_ceil(TURNED_ROWS)) as u64
}

/// Subgroups for the keys of every (b, kv).
pub(crate) fn turned_key_tiles(p: &Params, _: &Device) -> u64 {
    let shape = Shape::of(p);
    (shape.batch * shape.kv_heads * shape.time.div_ceil(TURNED_ROWS)) as u64
}

/// Whether rows are whole vec4s, at most one for each of 8 lanes.
pub(crate) fn one_vector_per_lane(p: &Params) -> bool {
    p.dim("D").is_multiple_of(4) && p.dim("D") <= 32
}

/// Whether rows are whole pairs of vec4s, at most one pair for each of 8 lanes.
pub(crate) fn two_vectors_per_lane(p: &Params) -> bool {
    p.dim("D").is_multiple_of(8) && p.dim("D") <= 64
}

/// Subgroups for the queries of every (b, kv).
pub(crate) fn query_tiles(p: &Params, _: &Device) -> u64 {
    let shape = Shape::of(p);
    (shape.batch * shape.kv_heads * (shape.time * shape.group()).div_ceil(SUBGROUP_ROWS)) as u64
}

/// Subgroups for the keys of every (b, kv).
pub(crate) fn key_tiles(p: &Params, _: &Device) -> u64 {
    let shape = Shape::of(p);
    (shape.batch * shape.kv_heads * shape.time.div_ceil(SUBGROUP_ROWS)) as u64
}

/// Workgroups with a query row per lane.
pub(crate) fn query_groups(p: &Params, _: &Device) -> u64 {
    ((p.dim("B") * p.dim("T") * p.dim("H")) as u64).div_ceil(LANES)
}

/// Workgroups with a key per lane.
pub(crate) fn key_groups(p: &Params, _: &Device) -> u64 {
    ((p.dim("B") * p.dim("T") * p.dim("KV")) as u64).div_ceil(LANES)
}

/// Iterations of a subgroup variant that walks `walked` rows of the other side.
pub(crate) fn subgroup_iterations(walked: usize) -> u64 {
    let blocks = walked.div_ceil(SUBGROUP_BLOCK) as u64;
    let rows = SUBGROUP_ROWS as u64;
    2 * rows + blocks * (1 + rows + 16) // 8 steps over a row's channels, 8 over the block
}

/// Whether rows are whole vec4s, `VECTORS` at most.
pub(crate) fn vectors_fit<const VECTORS: usize>(p: &Params) -> bool {
    p.dim("D").is_multiple_of(4) && p.dim("D") <= 4 * VECTORS
}

/// A configuration of the texts that walk the other side's rows in workgroup memory.
struct Tile {
    name: &'static str,
    /// Lanes of a row, lanes, rows of the other side in memory at once.
    consts: &'static [(&'static str, u32); 3],
}

/// vec4s of channels that a lane has room for, the texts' `D4`: with the four arrays of `attention_bwd_kv` 128 registers,
/// half of what a GPU gives a lane at most. One lane a row of 64 channels would need 256 there, and spill.
const TILE_VECTORS: u32 = 8;

/// What query rows are tiled by. Both operands' tiles and the lanes' parts of the scores are within 16 KiB.
static QUERY_TILES: [Tile; 3] = [
    Tile { name: "workgroup_tile_32", consts: &[("SPLIT", 1), ("LANES", 64), ("BLOCK", 16)] },
    Tile { name: "workgroup_tile_64", consts: &[("SPLIT", 2), ("LANES", 128), ("BLOCK", 8)] },
    Tile { name: "workgroup_tile_128", consts: &[("SPLIT", 4), ("LANES", 128), ("BLOCK", 8)] },
];

/// What keys are tiled by: as query rows, but log-sum-exp and delta take room, too.
static KEY_TILES: [Tile; 3] = [
    Tile { name: "workgroup_tile_32", consts: &[("SPLIT", 1), ("LANES", 64), ("BLOCK", 16)] },
    Tile { name: "workgroup_tile_64", consts: &[("SPLIT", 2), ("LANES", 128), ("BLOCK", 8)] },
    Tile { name: "workgroup_tile_128", consts: &[("SPLIT", 4), ("LANES", 128), ("BLOCK", 4)] },
];

/// Largest head size that attention's kernels read in half precision: that of their widest tiles. `row_per_lane`, which
/// takes any, goes by single elements and knows f32 alone.
pub const MOST_HALF_HEAD: usize = (4 * TILE_VECTORS * QUERY_TILES[2].consts[0].1) as usize;

impl Tile {
    /// Whether rows are whole vec4s and the lanes of one have room for it.
    fn fits(&self, p: &Params) -> bool {
        p.dim("D").is_multiple_of(4) && p.dim("D") as u32 <= 4 * TILE_VECTORS * self.consts[0].1
    }

    /// Workgroups for so many rows of every (b, kv).
    fn groups(&self, p: &Params, rows: usize) -> u64 {
        let [(_, split), (_, lanes), _] = *self.consts;
        (p.dim("B") * p.dim("KV")) as u64 * (rows as u64).div_ceil((lanes / split).into())
    }

    /// Iterations of a lane that walks so many rows of the other side: a copy that all lanes share, then four rows at a
    /// time in two loops over channels and one over the lanes of a row.
    fn iterations(&self, walked: usize) -> u64 {
        let [(_, split), (_, lanes), (_, block)] = *self.consts;
        let copies = (block * TILE_VECTORS * split).div_ceil(lanes);
        let fours = block / 4 * (2 + 2 * TILE_VECTORS + split);
        (walked as u64).div_ceil(block.into()) * u64::from(1 + copies + fours) + u64::from(2 * TILE_VECTORS)
    }
}

/// Configuration `T` of [`QUERY_TILES`].
pub(crate) const fn query_tile<const T: usize>(wgsl: &'static str) -> Variant {
    Variant {
        consts: QUERY_TILES[T].consts,
        fits: |p| QUERY_TILES[T].fits(p),
        ..Variant::portable(
            QUERY_TILES[T].name,
            wgsl,
            |p, _| QUERY_TILES[T].groups(p, queries_of_key(p)),
            |p, _| QUERY_TILES[T].iterations(p.dim("T")),
        )
    }
}

/// Configuration `T` of [`KEY_TILES`].
pub(crate) const fn key_tile<const T: usize>(wgsl: &'static str) -> Variant {
    Variant {
        consts: KEY_TILES[T].consts,
        fits: |p| KEY_TILES[T].fits(p),
        ..Variant::portable(
            KEY_TILES[T].name,
            wgsl,
            |p, _| KEY_TILES[T].groups(p, p.dim("T")),
            |p, _| KEY_TILES[T].iterations(queries_of_key(p)),
        )
    }
}

/// Queries that read one key at most.
pub(crate) fn queries_of_key(p: &Params) -> usize {
    p.dim("T") * Shape::of(p).group()
}

/// Iterations of a variant with a row per lane that walks `walked` rows of the other side, four at once.
pub(crate) fn row_iterations(p: &Params, walked: usize) -> u64 {
    let channels = p.dim("D") as u64;
    2 * channels + walked.div_ceil(4) as u64 * (1 + 2 * channels)
}

/// A score of the cases is at most about 100 and its rounding 1e-5 of e^score at worst: squared, 1e-10.
pub(crate) const NMSE: f64 = 1e-10;

/// A case of these (B, T, H, KV, D).
pub(crate) fn case([b, t, h, kv, d]: [usize; 5], causal: bool, scale: f32) -> Case {
    let dims = [("B", b), ("T", t), ("H", h), ("KV", kv), ("D", d), ("causal", usize::from(causal))];
    Case::new(Params::dims(dims).with_scalar("scale", scale)).fill("delta", Fill::Derived(delta))
}

/// What every attention kernel is tried with.
pub(crate) fn cases() -> Vec<Case> {
    vec![
        case([1, 3, 2, 2, 1], true, 0.7),
        case([2, 17, 6, 2, 13], true, 0.28),
        case([1, 29, 3, 1, 13], false, 0.28),
        case([2, 37, 6, 2, 32], true, 0.18),
        case([1, 70, 2, 2, 20], false, 0.22),
        case([1, 65, 4, 2, 64], true, 0.125),
        case([1, 33, 2, 1, 40], false, 0.16),
        case([1, 35, 4, 2, 128], true, 0.09),
        case([1, 18, 3, 1, 100], false, 0.1),
        case([1, 9, 1, 1, 132], true, 0.09),
        // Scores up to about 100: the running maximum is what keeps exp in range.
        case([1, 50, 2, 1, 16], true, 6.0),
    ]
}

/// What the backward kernels are given as delta: the rows of y, which they do not read, times those of dy.
fn delta(p: &Params, values: &Values) -> Vec<f64> {
    let shape = Shape::of(p);
    let y = &(attention_fwd::CARD.reference)(p, values)["y"];
    let mut delta = vec![0.0; shape.batch * shape.heads * shape.time];
    for at in shape.queries() {
        let row = shape.row(shape.heads, at);
        delta[shape.scalar(at)] = dot(y, &values["dy"], shape.channels, row, row);
    }
    delta
}

/// Turns scores into e^(score - the largest); returns the largest and the sum.
pub(crate) fn exponentials(scores: &mut [f32]) -> (f32, f32) {
    let largest = vectorised(
        #[inline(always)]
        || {
            let largest = reduce::max(scores);
            scores.iter_mut().for_each(|score| *score = exp(*score - largest));
            largest
        },
    );
    (largest, reduce::sum(scores.len(), |s| scores[s]))
}

/// A matrix in a slice: element (m, n) stands at m * `strides[0]` + n * `strides[1]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Rows of contiguous elements, `stride` apart.
    pub(crate) fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, strides: [stride, 1] }
    }

    pub(crate) fn transposed(self) -> Self {
        let [m, n] = self.strides;
        Self { strides: [n, m], ..self }
    }

    fn holds(&self, m: usize, n: usize) -> bool {
        (m - 1) * self.strides[0] + (n - 1) * self.strides[1] < self.data.len()
    }
}

/// out = factor * a b, or out += it; `out` has M rows of N contiguous elements, `stride` apart, a is (M, K), b is (K, N).
/// On the calling thread: the kernels share out tiles over threads, never a sum.
pub(crate) fn product(
    (out, stride): (&mut [f32], usize),
    add: bool,
    factor: f32,
    [m, n, k]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    assert!(a.holds(m, k) && b.holds(k, n) && (m - 1) * stride + n <= out.len(), "attention: a tile leaves its tensor");
    let [a_m, a_k] = a.strides.map(|stride| stride as isize);
    let [b_k, b_n] = b.strides.map(|stride| stride as isize);
    // SAFETY: by the assertion every element that the extents and strides reach lies in its slice.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.data.as_ptr(),
            a_k,
            a_m,
            b.data.as_ptr(),
            b_n,
            b_k,
            1.0,
            factor,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
