// q_rotated[r] = rope(q[r], t), k_cache[b,t] = rope(k[r], t), v_cache[b,t] = v[r] with (b, t) = rows[r]   (RoPE, Su et al. 2021, rotate-half layout)
// A workgroup owns 64 pairs (r, head, i) over the heads of q and k; a lane turns one pair, and copies v's beside k's.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    B: u32,
    S: u32,
    H: u32,
    KV: u32,
    D: u32,
}

@group(0) @binding(0) var<storage, read> rows: array<u32>;             // (R, 2): sequence, position
@group(0) @binding(1) var<storage, read> q: array<f32>;                // (R, H, D)
@group(0) @binding(2) var<storage, read> k: array<f32>;                // (R, KV, D)
@group(0) @binding(3) var<storage, read> v: array<f32>;                // (R, KV, D)
@group(0) @binding(4) var<storage, read> angles: array<f32>;           // (S, D): cosines, then sines
@group(0) @binding(5) var<storage, read_write> q_rotated: array<f32>;  // (R, H, D)
@group(0) @binding(6) var<storage, read_write> k_cache: array<f32>;    // (B, S, KV, D)
@group(0) @binding(7) var<storage, read_write> v_cache: array<f32>;    // (B, S, KV, D)
@group(0) @binding(8) var<uniform> params: Params;

@compute @workgroup_size(64)
fn rope_cache_write(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pair = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let half = params.D / 2u;
    let heads = params.H + params.KV;
    let head = pair / half % heads;
    let r = pair / half / heads;
    if r >= params.R { return; } // the last group's tail, and the fold's overshoot
    let i = pair % half;
    let b = rows[2u * r];
    let t = rows[2u * r + 1u];
    let angle = min(t, params.S - 1u) * 2u * half + i; // a row of padding may stand anywhere
    let c = angles[angle];
    let s = angles[angle + half];
    if head < params.H {
        let at = (r * params.H + head) * 2u * half + i;
        q_rotated[at] = q[at] * c - q[at + half] * s;
        q_rotated[at + half] = q[at + half] * c + q[at] * s;
        return;
    }
    if b >= params.B || t >= params.S { return; } // a row of padding has no place in the cache
    let kv = head - params.H;
    let at = (r * params.KV + kv) * 2u * half + i;
    let place = ((b * params.S + t) * params.KV + kv) * 2u * half + i;
    k_cache[place] = k[at] * c - k[at + half] * s;
    k_cache[place + half] = k[at + half] * c + k[at] * s;
    v_cache[place] = v[at];
    v_cache[place + half] = v[at + half];
}
