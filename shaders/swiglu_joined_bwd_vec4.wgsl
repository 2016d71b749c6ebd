// dgate_up[r, F + i] = dy[r, i] g s,   dgate_up[r, i] = dy[r, i] u s (1 + g (1 - s)),   g = gate_up[r, i], u = gate_up[r, F + i], s = sigmoid(g)
// A workgroup owns 256 elements of dy, a lane four of them. F is a multiple of 4.
#import grid, sigmoid, stored

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    F: u32,
}

@group(0) @binding(0) var<storage, read> gate_up: array<Stored4>;         // (R, 2, F/4)
@group(0) @binding(1) var<storage, read> dy: array<Stored4>;              // (R, F/4)
@group(0) @binding(2) var<storage, read_write> dgate_up: array<Stored4>;  // (R, 2, F/4)
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn swiglu_joined_bwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let width = params.F / 4u;
    if i >= params.R * width { return; } // the last group's tail, and the fold's overshoot
    let at = i + i / width * width;
    let g = widen(gate_up[at]);
    let s = sigmoid4(g);
    let upstream = widen(dy[i]);
    dgate_up[at + width] = narrow(upstream * g * s);
    dgate_up[at] = narrow(upstream * widen(gate_up[at + width]) * s * (1.0 + g * (1.0 - s)));
}
