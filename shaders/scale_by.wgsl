// y[i] = x[i] factor[0]
// A workgroup owns 64 elements, a lane one of them.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;        // (N)
@group(0) @binding(1) var<storage, read> factor: array<f32>;   // (2): the factor, and what is not used here
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (N)
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn scale_by(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    if i >= params.N { return; } // the last group's tail, and the fold's overshoot
    y[i] = x[i] * factor[0];
}
