// y[i] = x[i], rounded to nearest where y is stored in half precision
// A workgroup owns 256 elements, a lane four of them. N is a multiple of 4.
#import grid, stored

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;      // (N)
@group(0) @binding(1) var<storage, read_write> y: array<Stored4>;  // (N)
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn convert(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    if i >= params.N / 4u { return; } // the last group's tail, and the fold's overshoot
    y[i] = narrow(x[i]);
}
