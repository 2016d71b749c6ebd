// dq[b,t,h] = scale sum_s p_s (dy.v_s - delta) k_s, p_s = exp(scale q.k_s - lse)   (FlashAttention-2, Dao 2023, alg. 2)
// A workgroup owns 64 query rows; a lane owns one row, walks its keys four at a time and sums in dq itself: any D.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    B: u32,
    T: u32,
    H: u32,
    KV: u32,
    D: u32,
    causal: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<f32>;         // (B, T, H, D)
@group(0) @binding(1) var<storage, read> k: array<f32>;         // (B, T, KV, D)
@group(0) @binding(2) var<storage, read> v: array<f32>;         // (B, T, KV, D)
@group(0) @binding(3) var<storage, read> dy: array<f32>;        // (B, T, H, D)
@group(0) @binding(4) var<storage, read> lse: array<f32>;       // (B, H, T)
@group(0) @binding(5) var<storage, read> delta: array<f32>;     // (B, H, T)
@group(0) @binding(6) var<storage, read_write> dq: array<f32>;  // (B, T, H, D)
@group(0) @binding(7) var<uniform> params: Params;

@compute @workgroup_size(64)
fn attention_bwd_q(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(workgroup, grid, params.group_offset) * 64u + lane; // (b, t, h)
    if row >= params.B * params.T * params.H { return; } // the last group's tail, and the fold's overshoot
    let D = params.D;
    let h = row % params.H;
    let t = row / params.H % params.T;
    let b = row / params.H / params.T;
    let stride = params.KV * D;
    let kv_at = b * params.T * stride + h / (params.H / params.KV) * D;
    let lse_row = lse[(b * params.H + h) * params.T + t];
    let delta_row = delta[(b * params.H + h) * params.T + t];
    let last = select(params.T - 1u, t, params.causal != 0u); // last key that the row sees
    for (var d = 0u; d < D; d += 1u) {
        dq[row * D + d] = 0.0;
    }
    for (var first = 0u; first <= last; first += 4u) {
        let s = first + vec4(0u, 1u, 2u, 3u);
        let at = kv_at + min(s, vec4(last)) * stride; // beyond the last key p is set to 0
        var score = vec4(0.0);
        var dp = vec4(0.0);
        for (var d = 0u; d < D; d += 1u) {
            let i = at + d;
            score = fma(vec4(q[row * D + d]), vec4(k[i.x], k[i.y], k[i.z], k[i.w]), score);
            dp = fma(vec4(dy[row * D + d]), vec4(v[i.x], v[i.y], v[i.z], v[i.w]), dp);
        }
        let p = exp(select(vec4(-3.0e38), params.scale * score - lse_row, s <= vec4(last)));
        let ds = params.scale * p * (dp - delta_row);
        for (var d = 0u; d < D; d += 1u) {
            let i = at + d;
            dq[row * D + d] += dot(ds, vec4(k[i.x], k[i.y], k[i.z], k[i.w]));
        }
    }
}
