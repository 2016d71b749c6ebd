// y[r, i] = silu(gate_up[r, i]) gate_up[r, F + i],   silu(x) = x sigmoid(x)        (Shazeer 2020, eq. 5)
// A workgroup owns 256 elements of y, a lane four of them. F is a multiple of 4.
#import grid, sigmoid, stored

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    F: u32,
}

@group(0) @binding(0) var<storage, read> gate_up: array<Stored4>;  // (R, 2, F/4)
@group(0) @binding(1) var<storage, read_write> y: array<Stored4>;  // (R, F/4)
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn swiglu_joined_fwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let width = params.F / 4u;
    if i >= params.R * width { return; } // the last group's tail, and the fold's overshoot
    let at = i + i / width * width;
    let g = widen(gate_up[at]);
    y[i] = narrow(g * sigmoid4(g) * widen(gate_up[at + width]));
}
