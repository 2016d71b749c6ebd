// moments[segment, p] = sum d^2, sum d^4, max |x| over chunk p of the segment, d = x - mean of the segment; 0 where empty
// A workgroup owns one chunk; a lane takes every LANES-th element.
#import grid, segment, workgroup_max, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
    SEG: u32,
    S: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;              // (N)
@group(0) @binding(1) var<storage, read> table: array<vec2<u32>>;    // (SEG, 2): offset, length
@group(0) @binding(2) var<storage, read> partial: array<f32>;        // (SEG, S): sums of the chunks
@group(0) @binding(3) var<storage, read_write> moments: array<f32>;  // (SEG, S, 3)
@group(0) @binding(4) var<uniform> params: Params;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn segment_moments(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    if group >= params.SEG * params.S { return; } // the fold's overshoot
    let segment = table[group / params.S];
    let chunk = segment_chunk(segment, group % params.S, params.S, params.N);
    var part = 0.0;
    for (var s = lane; s < params.S; s += LANES) {
        part += partial[group / params.S * params.S + s];
    }
    let mean = workgroup_sum(part, lane) / f32(segment.y);
    var squares = 0.0;
    var fourths = 0.0;
    var largest = 0.0;
    for (var i = chunk.x + lane; i < chunk.y; i += LANES) {
        let d = x[i] - mean;
        squares = fma(d, d, squares);
        fourths = fma(d * d, d * d, fourths);
        largest = max(largest, abs(x[i]));
    }
    squares = workgroup_sum(squares, lane);
    fourths = workgroup_sum(fourths, lane);
    largest = workgroup_max(largest, lane);
    if lane == 0u {
        moments[3u * group] = squares;
        moments[3u * group + 1u] = fourths;
        moments[3u * group + 2u] = largest;
    }
}
