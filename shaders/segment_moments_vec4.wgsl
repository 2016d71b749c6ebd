// moments[segment, p] = sum d^2, sum d^4, max |x| over chunk p of the segment, d = x - mean of the segment; 0 where empty
// A workgroup owns one chunk; a lane takes every LANES-th group of four elements. N and offsets are multiples of 4.
#import grid, reduce, segment, workgroup_max, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
    SEG: u32,
    S: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;        // (N)
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
    let whole = chunk.y / 4u;
    var squares4 = vec4<f32>();
    var fourths4 = vec4<f32>();
    var largest4 = vec4<f32>();
    for (var i = chunk.x / 4u + lane; i < whole; i += LANES) {
        let v = x[i];
        let d = v - mean;
        squares4 = fma(d, d, squares4);
        fourths4 = fma(d * d, d * d, fourths4);
        largest4 = max(largest4, abs(v));
    }
    // The segment's tail, an element per lane.
    if lane < chunk.y % 4u {
        let d = x[whole][lane] - mean;
        squares4.x = fma(d, d, squares4.x);
        fourths4.x = fma(d * d, d * d, fourths4.x);
        largest4.x = max(largest4.x, abs(x[whole][lane]));
    }
    let squares = workgroup_sum(sum4(squares4), lane);
    let fourths = workgroup_sum(sum4(fourths4), lane);
    let largest = workgroup_max(max(max(largest4.x, largest4.y), max(largest4.z, largest4.w)), lane);
    if lane == 0u {
        moments[3u * group] = squares;
        moments[3u * group + 1u] = fourths;
        moments[3u * group + 2u] = largest;
    }
}
