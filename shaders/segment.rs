//! What the segment kernels share. A segment table (SEG, 2) of u32 holds the offset and the length of every segment in
//! x (N): segments lie in any order, do not overlap and may leave gaps; offsets are multiples of [`ALIGNMENT`], lengths
//! at least 1.
//!
//! Sums over a segment come in two stages of fixed order: S chunks of it, each by one workgroup, then the chunks.

use std::ops::Range;

use crate::{Case, Class, Device, Params, Values, Variant};

/// Chunks that a segment is split into: S. 28 matrices of a small model make 1,792 workgroups of them.
pub const CHUNKS: usize = 64;

/// Offsets of segments are multiples of so many elements: of what storage bindings are aligned to.
pub const ALIGNMENT: usize = 64;

/// Lanes of a workgroup: on software a barrier costs by the lane; elsewhere lanes hide the memory's latency.
const LANES: u32 = 64;
const MANY_LANES: u32 = 256;

/// Lengths of the segments in cases: around and far from S, fours, and a workgroup's round.
const LENGTHS: [usize; 7] = [1000, 1, 4099, 5, 64, 130, 4096];

/// The variants of a kernel with one workgroup per segment and chunk.
pub(crate) const fn variants(scalar: &'static str, vec4: &'static str) -> [Variant; 3] {
    let fours = |p: &Params| p.dim("N").is_multiple_of(4);
    [
        Variant {
            preferred_on: &[Class::Software],
            fits: fours,
            ..Variant::portable("vec4", vec4, groups, |p, _| iterations(p, 4 * LANES))
        },
        Variant {
            consts: &[("LANES", MANY_LANES)],
            preferred_on: &[Class::Integrated, Class::Discrete],
            fits: fours,
            ..Variant::portable("vec4_many_lanes", vec4, groups, |p, _| iterations(p, 4 * MANY_LANES))
        },
        Variant::portable("scalar", scalar, groups, |p, _| iterations(p, LANES)),
    ]
}

fn groups(p: &Params, _: &Device) -> u64 {
    p.dim("SEG") as u64 * p.dim("S") as u64
}

/// Where one segment fills x: its chunk, its partial sums, and four trees over the lanes.
fn iterations(p: &Params, round: u32) -> u64 {
    let round = u64::from(round);
    (block(p.dim("N"), p.dim("S")) as u64).div_ceil(round) + reductions(p)
}

/// Iterations that four sums over a segment's chunks take at most.
pub(crate) fn reductions(p: &Params) -> u64 {
    p.dim("S").div_ceil(LANES as usize) as u64 + u64::from(4 * MANY_LANES.ilog2())
}

/// Elements of a chunk: a multiple of 4, so that all variants split alike.
pub(crate) fn block(length: usize, chunks: usize) -> usize {
    length.div_ceil(chunks).next_multiple_of(4)
}

/// Where segment `segment` of the table lies in x.
pub(crate) fn extent(table: &[u32], segment: usize) -> Range<usize> {
    let (offset, length) = (table[2 * segment] as usize, table[2 * segment + 1] as usize);
    offset..offset + length
}

/// Where chunk `chunk` of a segment lies in x.
pub(crate) fn chunk(extent: &Range<usize>, chunk: usize, chunks: usize) -> Range<usize> {
    let block = block(extent.len(), chunks);
    (extent.start + chunk * block).min(extent.end)..(extent.start + (chunk + 1) * block).min(extent.end)
}

/// A segment's elements in the reference.
pub(crate) fn elements(v: &Values, segment: usize) -> &[f64] {
    let (offset, length) = (v["table"][2 * segment] as usize, v["table"][2 * segment + 1] as usize);
    &v["x"][offset..offset + length]
}

/// The first so many of [`LENGTHS`], in S chunks, and `rest` elements behind the last.
pub(crate) fn case(segments: usize, chunks: usize, rest: usize) -> Case {
    let table = layout(segments);
    let end = table[2 * segments - 2] + table[2 * segments - 1];
    let params = Params::dims([("N", end + rest), ("SEG", segments), ("S", chunks)]);
    Case::new(params).fill("table", crate::Fill::Derived(table_of))
}

/// Shapes for every kernel: x ends with its only segment, one chunk, gaps, a tail that ends x.
pub(crate) fn shapes() -> Vec<Case> {
    [(1, 64, 0), (1, 1, 0), (7, 64, 0), (7, 3, 64), (4, 64, 59), (6, 64, 0), (5, 7, 1), (2, 100, 0)]
        .map(|(segments, chunks, rest)| case(segments, chunks, rest))
        .to_vec()
}

pub(crate) fn table_of(p: &Params, _: &Values) -> Vec<f64> {
    layout(p.dim("SEG")).into_iter().map(|word| word as f64).collect()
}

/// A table with a gap of a whole alignment before every other segment.
fn layout(segments: usize) -> Vec<usize> {
    let (mut table, mut end) = (Vec::new(), 0_usize);
    for (i, &length) in LENGTHS[..segments].iter().enumerate() {
        let offset = end.next_multiple_of(ALIGNMENT) + if i % 2 == 1 { ALIGNMENT } else { 0 };
        table.extend([offset, length]);
        end = offset + length;
    }
    table
}
