// partial[s] = sum of x[i]^2 over block s: 4 ceil(N / (4 S)) elements, in the last blocks fewer or none
// A workgroup owns one block; a lane takes every LANES-th group of four elements. N is a multiple of 4.
#import grid, reduce, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
    S: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;        // (N)
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
    let quads = params.N / 4u;
    let block = (quads + params.S - 1u) / params.S; // in fours
    let begin = s * block;
    let end = min(begin + block, quads);
    var squares = vec4<f32>();
    for (var i = begin + lane; i < end; i += LANES) {
        let v = x[i];
        squares = fma(v, v, squares);
    }
    let total = workgroup_sum(sum4(squares), lane);
    if lane == 0u { partial[s] = total; }
}
