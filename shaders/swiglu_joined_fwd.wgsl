// y[r, i] = silu(gate_up[r, i]) gate_up[r, F + i],   silu(x) = x sigmoid(x)        (Shazeer 2020, eq. 5)
// A workgroup owns 64 elements of y, a lane one.
#import grid, sigmoid

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    F: u32,
}

@group(0) @binding(0) var<storage, read> gate_up: array<f32>;  // (R, 2, F)
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // (R, F)
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn swiglu_joined_fwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    if i >= params.R * params.F { return; } // the last group's tail, and the fold's overshoot
    let at = i + i / params.F * params.F;
    let g = gate_up[at];
    y[i] = g * sigmoid(g) * gate_up[at + params.F];
}
