// dup[i] = dy[i] g s,   dgate[i] = dy[i] up[i] s (1 + g (1 - s)),   g = gate[i], s = sigmoid(g)
// A workgroup owns 256 elements, a lane four of them. N is a multiple of 4.
#import grid, sigmoid, stored

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
}

@group(0) @binding(0) var<storage, read> gate: array<Stored4>;           // (N)
@group(0) @binding(1) var<storage, read> up: array<Stored4>;             // (N)
@group(0) @binding(2) var<storage, read> dy: array<Stored4>;             // (N)
@group(0) @binding(3) var<storage, read_write> dgate: array<Stored4>;    // (N)
@group(0) @binding(4) var<storage, read_write> dup: array<Stored4>;      // (N)
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(64)
fn swiglu_bwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    if i >= params.N / 4u { return; } // the last group's tail, and the fold's overshoot
    let g = widen(gate[i]);
    let s = sigmoid4(g);
    let upstream = widen(dy[i]);
    dup[i] = narrow(upstream * g * s);
    dgate[i] = narrow(upstream * widen(up[i]) * s * (1.0 + g * (1.0 - s)));
}
