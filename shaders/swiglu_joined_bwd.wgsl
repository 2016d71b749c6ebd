// dgate_up[r, F + i] = dy[r, i] g s,   dgate_up[r, i] = dy[r, i] u s (1 + g (1 - s)),   g = gate_up[r, i], u = gate_up[r, F + i], s = sigmoid(g)
// A workgroup owns 64 elements of dy, a lane one.
#import grid, sigmoid

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    F: u32,
}

@group(0) @binding(0) var<storage, read> gate_up: array<f32>;         // (R, 2, F)
@group(0) @binding(1) var<storage, read> dy: array<f32>;              // (R, F)
@group(0) @binding(2) var<storage, read_write> dgate_up: array<f32>;  // (R, 2, F)
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn swiglu_joined_bwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    if i >= params.R * params.F { return; } // the last group's tail, and the fold's overshoot
    let at = i + i / params.F * params.F;
    let g = gate_up[at];
    let s = sigmoid(g);
    let upstream = dy[i];
    dgate_up[at + params.F] = upstream * g * s;
    dgate_up[at] = upstream * gate_up[at + params.F] * s * (1.0 + g * (1.0 - s));
}
