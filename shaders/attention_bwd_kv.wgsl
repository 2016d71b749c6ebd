// dv[b,s] = sum_t,g p dy[b,t,h], dk[b,s] = scale sum_t,g p (dy.v - delta) q[b,t,h], p = exp(scale q.k - lse)   (FlashAttention-2, Dao 2023, alg. 2)
// A workgroup owns 64 keys; a lane owns one key, walks the queries that see it four at a time and sums in dk and dv themselves: any D.
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
@group(0) @binding(6) var<storage, read_write> dk: array<f32>;  // (B, T, KV, D)
@group(0) @binding(7) var<storage, read_write> dv: array<f32>;  // (B, T, KV, D)
@group(0) @binding(8) var<uniform> params: Params;

@compute @workgroup_size(64)
fn attention_bwd_kv(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let key = group_index(workgroup, grid, params.group_offset) * 64u + lane; // (b, s, kv)
    if key >= params.B * params.T * params.KV { return; } // the last group's tail, and the fold's overshoot
    let D = params.D;
    let G = params.H / params.KV;
    let rows = params.T * G; // queries of the key's heads, counted t*G + g
    let kv = key % params.KV;
    let s = key / params.KV % params.T;
    let b = key / params.KV / params.T;
    for (var d = 0u; d < D; d += 1u) {
        dk[key * D + d] = 0.0;
        dv[key * D + d] = 0.0;
    }
    for (var first = select(0u, s * G, params.causal != 0u); first < rows; first += 4u) {
        let own = first + vec4(0u, 1u, 2u, 3u);
        let row = min(own, vec4(rows - 1u)); // beyond the last row p is set to 0
        let t = row / G;
        let h = kv * G + row % G;
        let at = ((b * params.T + t) * params.H + h) * D;
        let n = (b * params.H + h) * params.T + t;
        var score = vec4(0.0);
        var dp = vec4(0.0);
        for (var d = 0u; d < D; d += 1u) {
            let i = at + d;
            score = fma(vec4(k[key * D + d]), vec4(q[i.x], q[i.y], q[i.z], q[i.w]), score);
            dp = fma(vec4(v[key * D + d]), vec4(dy[i.x], dy[i.y], dy[i.z], dy[i.w]), dp);
        }
        let lse_row = vec4(lse[n.x], lse[n.y], lse[n.z], lse[n.w]);
        let p = exp(select(vec4(-3.0e38), params.scale * score - lse_row, own < vec4(rows)));
        let ds = params.scale * p * (dp - vec4(delta[n.x], delta[n.y], delta[n.z], delta[n.w]));
        for (var d = 0u; d < D; d += 1u) {
            let i = at + d;
            dk[key * D + d] += dot(ds, vec4(q[i.x], q[i.y], q[i.z], q[i.w]));
            dv[key * D + d] += dot(p, vec4(dy[i.x], dy[i.y], dy[i.z], dy[i.w]));
        }
    }
}
