// y[b,t,h] = sum_s p_s v[b,s,h/G] / sum_s p_s, p_s = exp(scale q.k_s - m), lse = m + ln(sum_s p_s)   (FlashAttention-2, Dao 2023, alg. 1)
// A workgroup owns 64 query rows; a lane owns one row, walks its keys four at a time and sums in y itself: any D.
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

@group(0) @binding(0) var<storage, read> q: array<f32>;          // (B, T, H, D)
@group(0) @binding(1) var<storage, read> k: array<f32>;          // (B, T, KV, D)
@group(0) @binding(2) var<storage, read> v: array<f32>;          // (B, T, KV, D)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;    // (B, T, H, D)
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;  // (B, H, T)
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(64)
fn attention_fwd(
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
    let kv = h / (params.H / params.KV);
    let stride = params.KV * D;
    let keys = b * params.T * stride + kv * D;
    let last = select(params.T - 1u, t, params.causal != 0u); // last key that the row sees
    for (var d = 0u; d < D; d += 1u) {
        y[row * D + d] = 0.0;
    }
    var m = -3.0e38;
    var l = 0.0;
    for (var first = 0u; first <= last; first += 4u) {
        let s = first + vec4(0u, 1u, 2u, 3u);
        let at = keys + min(s, vec4(last)) * stride; // keys beyond the last weigh nothing
        var score = vec4(0.0);
        for (var d = 0u; d < D; d += 1u) {
            score = fma(vec4(q[row * D + d]), vec4(k[at.x + d], k[at.y + d], k[at.z + d], k[at.w + d]), score);
        }
        score = select(vec4(-3.0e38), params.scale * score, s <= vec4(last));
        let top = max(max(m, max(score.x, score.y)), max(score.z, score.w));
        let shrink = exp(m - top);
        let p = exp(score - top);
        m = top;
        l = fma(l, shrink, (p.x + p.y) + (p.z + p.w));
        for (var d = 0u; d < D; d += 1u) {
            y[row * D + d] = fma(y[row * D + d], shrink, dot(p, vec4(v[at.x + d], v[at.y + d], v[at.z + d], v[at.w + d])));
        }
    }
    for (var d = 0u; d < D; d += 1u) {
        y[row * D + d] /= l;
    }
    lse[(b * params.H + h) * params.T + t] = m + log(l);
}
