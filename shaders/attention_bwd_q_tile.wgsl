// dq[b,t,h] = scale sum_s p_s (dy.v_s - delta) k_s, p_s = exp(scale q.k_s - lse)   (FlashAttention-2, Dao 2023, alg. 2)
// A workgroup owns 64 query rows of one (b, kv), counted row = t*G + g over the heads that share its keys; a lane owns one row.
// Keys and values come through workgroup memory, KEYS at a time, of which a lane takes four at once.
#import grid, stored

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

@group(0) @binding(0) var<storage, read> q: array<Stored4>;           // (B, T, H, D/4)
@group(0) @binding(1) var<storage, read> k: array<Stored4>;           // (B, T, KV, D/4)
@group(0) @binding(2) var<storage, read> v: array<Stored4>;           // (B, T, KV, D/4)
@group(0) @binding(3) var<storage, read> dy: array<Stored4>;          // (B, T, H, D/4)
@group(0) @binding(4) var<storage, read> lse: array<f32>;             // (B, H, T)
@group(0) @binding(5) var<storage, read> delta: array<f32>;           // (B, H, T)
@group(0) @binding(6) var<storage, read_write> dq: array<Stored4>;    // (B, T, H, D/4)
@group(0) @binding(7) var<uniform> params: Params;

const D4: u32 = 16u; // vec4s of a row that the registers have room for
const KEYS: u32 = 16u; // a tile of keys and one of values takes 8 KiB at most

var<workgroup> key_tile: array<vec4<f32>, KEYS * D4>;
var<workgroup> value_tile: array<vec4<f32>, KEYS * D4>;

@compute @workgroup_size(64)
fn attention_bwd_q(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    let G = params.H / params.KV;
    let rows = params.T * G;
    let tiles = (rows + 63u) / 64u;
    let kv = group / tiles % params.KV;
    let b = group / tiles / params.KV;
    if b >= params.B { return; } // the fold's overshoot
    let width = params.D / 4u;
    let first_row = group % tiles * 64u;
    let row = min(first_row + lane, rows - 1u); // the last tile's tail repeats the last row, and is not stored
    let t = row / G;
    let h = kv * G + row % G;
    let at = ((b * params.T + t) * params.H + h) * width;

    var query: array<vec4<f32>, D4>;
    var upstream: array<vec4<f32>, D4>;
    var sum: array<vec4<f32>, D4>;
    for (var d = 0u; d < D4; d += 1u) {
        query[d] = select(vec4(0.0), params.scale * widen(q[at + min(d, width - 1u)]), d < width);
        upstream[d] = select(vec4(0.0), widen(dy[at + min(d, width - 1u)]), d < width);
        sum[d] = vec4(0.0);
    }
    let lse_row = lse[(b * params.H + h) * params.T + t];
    let delta_row = delta[(b * params.H + h) * params.T + t];
    let last = select(params.T - 1u, t, params.causal != 0u); // last key that the row sees
    let end = select(params.T, min(first_row + 63u, rows - 1u) / G + 1u, params.causal != 0u);
    for (var first = 0u; first < end; first += KEYS) {
        workgroupBarrier();
        for (var i = lane; i < KEYS * D4; i += 64u) {
            // Beyond the last key and the last channel the tile holds repeats: neither is counted.
            let source = ((b * params.T + min(first + i / D4, params.T - 1u)) * params.KV + kv) * width + min(i % D4, width - 1u);
            key_tile[i] = widen(k[source]);
            value_tile[i] = widen(v[source]);
        }
        workgroupBarrier();
        for (var j = 0u; j < min(KEYS, end - first); j += 4u) {
            let tile = j * D4;
            var s = vec4(0.0);
            var dp = vec4(0.0);
            for (var d = 0u; d < D4; d += 1u) {
                s += vec4(
                    dot(query[d], key_tile[tile + d]),
                    dot(query[d], key_tile[tile + D4 + d]),
                    dot(query[d], key_tile[tile + 2u * D4 + d]),
                    dot(query[d], key_tile[tile + 3u * D4 + d]),
                );
                dp += vec4(
                    dot(upstream[d], value_tile[tile + d]),
                    dot(upstream[d], value_tile[tile + D4 + d]),
                    dot(upstream[d], value_tile[tile + 2u * D4 + d]),
                    dot(upstream[d], value_tile[tile + 3u * D4 + d]),
                );
            }
            let seen = vec4(first + j) + vec4(0u, 1u, 2u, 3u) <= vec4(last);
            let ds = exp(select(vec4(-3.0e38), s - lse_row, seen)) * (dp - delta_row);
            for (var d = 0u; d < D4; d += 1u) {
                sum[d] = fma(vec4(ds.x), key_tile[tile + d], sum[d]);
                sum[d] = fma(vec4(ds.y), key_tile[tile + D4 + d], sum[d]);
                sum[d] = fma(vec4(ds.z), key_tile[tile + 2u * D4 + d], sum[d]);
                sum[d] = fma(vec4(ds.w), key_tile[tile + 3u * D4 + d], sum[d]);
            }
        }
    }
    if first_row + lane < rows {
        for (var d = 0u; d < min(D4, width); d += 1u) {
            dq[at + d] = narrow(params.scale * sum[d]);
        }
    }
}
