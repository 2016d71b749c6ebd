// y[r, c] = w[ids[r], c]
// A workgroup owns 256 elements of y, a lane four of one row. C is a multiple of 4.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    V: u32,
    C: u32,
}

@group(0) @binding(0) var<storage, read> ids: array<u32>;            // (R)
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;        // (V, C)
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;  // (R, C)
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn embedding_fwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let columns = params.C / 4u; // in fours
    let row = i / columns;
    if row >= params.R { return; } // the last group's tail, and the fold's overshoot
    // The host has checked the ids; the clamp keeps a stray one inside the table on every driver.
    let id = min(ids[row], params.V - 1u);
    y[i] = w[id * columns + i % columns];
}
