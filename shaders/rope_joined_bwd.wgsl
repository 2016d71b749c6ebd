// dqkv = dq and dk with the rotation undone, then dv;   undone: dx[i] = dy[i] cos[t,i] + dy[i+D/2] sin[t,i], dx[i+D/2] = dy[i+D/2] cos[t,i] - dy[i] sin[t,i]   (RoPE, Su et al. 2021)
// A workgroup owns 64 positions (b, t, i); a lane owns one pair of every head at its position, whose angle they share.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    B: u32,
    T: u32,
    H: u32,
    KV: u32,
    D: u32,
}

@group(0) @binding(0) var<storage, read> dq: array<f32>;          // (B, T, H, D)
@group(0) @binding(1) var<storage, read> dk: array<f32>;          // (B, T, KV, D)
@group(0) @binding(2) var<storage, read> dv: array<f32>;          // (B, T, KV, D)
@group(0) @binding(3) var<storage, read> cos: array<f32>;         // (T, D/2)
@group(0) @binding(4) var<storage, read> sin: array<f32>;         // (T, D/2)
@group(0) @binding(5) var<storage, read_write> dqkv: array<f32>;  // (B, T, H+KV+KV, D)
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(64)
fn rope_joined_bwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let position = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let half = params.D / 2u;
    if position >= params.B * params.T * half { return; } // the last group's tail, and the fold's overshoot
    let bt = position / half;
    let i = position - bt * half;
    let c = cos[bt % params.T * half + i];
    let s = sin[bt % params.T * half + i];
    let head = 2u * half;
    let row = bt * (params.H + 2u * params.KV) * head + i;
    for (var h = 0u; h < params.H; h += 1u) {
        let at = (bt * params.H + h) * head + i;
        let to_q = row + h * head;
        let first = dq[at];
        let second = dq[at + half];
        dqkv[to_q] = first * c + second * s;
        dqkv[to_q + half] = second * c - first * s;
    }
    for (var h = 0u; h < params.KV; h += 1u) {
        let at = (bt * params.KV + h) * head + i;
        let to_k = row + (params.H + h) * head;
        let to_v = to_k + params.KV * head;
        let first = dk[at];
        let second = dk[at + half];
        dqkv[to_k] = first * c + second * s;
        dqkv[to_k + half] = second * c - first * s;
        dqkv[to_v] = dv[at];
        dqkv[to_v + half] = dv[at + half];
    }
}
