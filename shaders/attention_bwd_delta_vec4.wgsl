// delta[b,h,t] = sum_d dy[b,t,h,d] y[b,t,h,d]: what softmax's backward takes off every dp   (FlashAttention-2, Dao 2023, alg. 2, line 4)
// A workgroup owns 64 rows of (b, t, h); a lane owns one row.
#import grid, reduce, stored

struct Params {
    groups: u32,
    group_offset: u32,
    B: u32,
    T: u32,
    H: u32,
    D: u32,
}

@group(0) @binding(0) var<storage, read> y: array<Stored4>;        // (B, T, H, D/4)
@group(0) @binding(1) var<storage, read> dy: array<Stored4>;       // (B, T, H, D/4)
@group(0) @binding(2) var<storage, read_write> delta: array<f32>;  // (B, H, T)
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn attention_bwd_delta(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    if row >= params.B * params.T * params.H { return; } // the last group's tail, and the fold's overshoot
    let h = row % params.H;
    let t = row / params.H % params.T;
    let b = row / params.H / params.T;
    let width = params.D / 4u;
    var sum = vec4(0.0);
    for (var d = 0u; d < width; d += 1u) {
        sum = fma(widen(y[row * width + d]), widen(dy[row * width + d]), sum);
    }
    delta[(b * params.H + h) * params.T + t] = sum4(sum);
}
