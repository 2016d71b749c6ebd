// partial[s] = sum of x[i]^2 over block s: 4 ceil(N / (4 S)) elements, in the last blocks fewer or none
// A workgroup owns one block; a lane takes every 16th element.
#import grid, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
    S: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;              // (N)
@group(0) @binding(1) var<storage, read_write> partial: array<f32>;  // (S)
@group(0) @binding(2) var<uniform> params: Params;

const LANES: u32 = 16u;

@compute @workgroup_size(LANES)
fn squared_norm(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let s = group_index(workgroup, grid, params.group_offset);
    if s >= params.S { return; } // the fold's overshoot
    let quads = (params.N + 3u) / 4u;
    let block = 4u * ((quads + params.S - 1u) / params.S);
    let begin = s * block;
    let end = min(begin + block, params.N);
    var squares = 0.0;
    for (var i = begin + lane; i < end; i += LANES) {
        squares = fma(x[i], x[i], squares);
    }
    let total = workgroup_sum(squares, lane);
    if lane == 0u { partial[s] = total; }
}
