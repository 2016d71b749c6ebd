// q = rope(qkv's first H heads), k = rope(its next KV), v = its last KV;   rope: y[i] = x[i] cos[t,i] - x[i+D/2] sin[t,i], y[i+D/2] = x[i+D/2] cos[t,i] + x[i] sin[t,i]   (RoPE, Su et al. 2021, rotate-half layout)
// A workgroup owns 64 positions (b, t, i); a lane owns 4 neighbouring pairs of every head at its position, whose angle they share.
#import grid, stored

struct Params {
    groups: u32,
    group_offset: u32,
    B: u32,
    T: u32,
    H: u32,
    KV: u32,
    D: u32,
}

@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;      // (B, T, H+KV+KV, D/4)
@group(0) @binding(1) var<storage, read> cos: array<vec4<f32>>;    // (T, D/8)
@group(0) @binding(2) var<storage, read> sin: array<vec4<f32>>;    // (T, D/8)
@group(0) @binding(3) var<storage, read_write> q: array<Stored4>;  // (B, T, H, D/4)
@group(0) @binding(4) var<storage, read_write> k: array<Stored4>;  // (B, T, KV, D/4)
@group(0) @binding(5) var<storage, read_write> v: array<Stored4>;  // (B, T, KV, D/4)
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(64)
fn rope_joined_fwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let position = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let half = params.D / 8u;
    if position >= params.B * params.T * half { return; } // the last group's tail, and the fold's overshoot
    let bt = position / half;
    let i = position - bt * half;
    let c = cos[bt % params.T * half + i];
    let s = sin[bt % params.T * half + i];
    let head = 2u * half;
    let row = bt * (params.H + 2u * params.KV) * head + i;
    for (var h = 0u; h < params.H; h += 1u) {
        let from_q = row + h * head;
        let at = (bt * params.H + h) * head + i;
        let first = widen(qkv[from_q]);
        let second = widen(qkv[from_q + half]);
        q[at] = narrow(first * c - second * s);
        q[at + half] = narrow(second * c + first * s);
    }
    for (var h = 0u; h < params.KV; h += 1u) {
        let from_k = row + (params.H + h) * head;
        let from_v = from_k + params.KV * head;
        let at = (bt * params.KV + h) * head + i;
        let first = widen(qkv[from_k]);
        let second = widen(qkv[from_k + half]);
        k[at] = narrow(first * c - second * s);
        k[at + half] = narrow(second * c + first * s);
        v[at] = qkv[from_v];
        v[at + half] = qkv[from_v + half];
    }
}
