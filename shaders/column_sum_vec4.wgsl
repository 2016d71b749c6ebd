// y[c] (+)= sum_s x[s, c]
// A workgroup owns 256 columns, a lane four of them over all rows. C is a multiple of 4.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    S: u32,
    C: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;        // (S, C)
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;  // (C)
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn column_sum(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let columns = params.C / 4u;
    let c = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    if c >= columns { return; } // the last group's tail, and the fold's overshoot
    var sum = vec4<f32>();
    for (var s = 0u; s < params.S; s += 1u) {
        sum += x[s * columns + c];
    }
    if params.accumulate != 0u { sum += y[c]; }
    y[c] = sum;
}
