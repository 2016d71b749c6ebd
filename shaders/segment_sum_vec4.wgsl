// partial[segment, p] = sum of x[i] over chunk p of the segment, 0 where the chunk is empty
// A workgroup owns one chunk; a lane takes every LANES-th group of four elements. N and offsets are multiples of 4.
#import grid, reduce, segment, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
    SEG: u32,
    S: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;        // (N)
@group(0) @binding(1) var<storage, read> table: array<vec2<u32>>;    // (SEG, 2): offset, length
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;  // (SEG, S)
@group(0) @binding(3) var<uniform> params: Params;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn segment_sum(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    if group >= params.SEG * params.S { return; } // the fold's overshoot
    let chunk = segment_chunk(table[group / params.S], group % params.S, params.S, params.N);
    let whole = chunk.y / 4u;
    var sums = vec4<f32>();
    for (var i = chunk.x / 4u + lane; i < whole; i += LANES) {
        sums += x[i];
    }
    var sum = sum4(sums);
    if lane < chunk.y % 4u { sum += x[whole][lane]; } // the segment's tail, an element per lane
    let total = workgroup_sum(sum, lane);
    if lane == 0u { partial[group] = total; }
}
