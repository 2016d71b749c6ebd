// dv[b,s] = sum_t,g p dy[b,t,h], dk[b,s] = scale sum_t,g p (dy.v - delta) q[b,t,h], p = exp(scale q.k - lse)   (FlashAttention-2, Dao 2023, alg. 2)
// A workgroup owns 64 keys of one (b, kv); a lane owns one key. The queries of the G heads that share them, counted t*G + g, come
// with their dy, lse and delta through workgroup memory, QUERIES at a time, of which a lane takes four at once.
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
@group(0) @binding(6) var<storage, read_write> dk: array<Stored4>;    // (B, T, KV, D/4)
@group(0) @binding(7) var<storage, read_write> dv: array<Stored4>;    // (B, T, KV, D/4)
@group(0) @binding(8) var<uniform> params: Params;

const D4: u32 = 16u; // vec4s of a row that the registers have room for
const QUERIES: u32 = 16u; // a tile of queries and one of dy takes 8 KiB at most

var<workgroup> query_tile: array<vec4<f32>, QUERIES * D4>;
var<workgroup> upstream_tile: array<vec4<f32>, QUERIES * D4>;
var<workgroup> lse_tile: array<f32, QUERIES>;
var<workgroup> delta_tile: array<f32, QUERIES>;

@compute @workgroup_size(64)
fn attention_bwd_kv(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    let G = params.H / params.KV;
    let rows = params.T * G;
    let tiles = (params.T + 63u) / 64u;
    let kv = group / tiles % params.KV;
    let b = group / tiles / params.KV;
    if b >= params.B { return; } // the fold's overshoot
    let width = params.D / 4u;
    let first_key = group % tiles * 64u;
    let s = min(first_key + lane, params.T - 1u); // the last tile's tail repeats the last key, and is not stored
    let at = ((b * params.T + s) * params.KV + kv) * width;

    var key: array<vec4<f32>, D4>;
    var value: array<vec4<f32>, D4>;
    var dkey: array<vec4<f32>, D4>;
    var dvalue: array<vec4<f32>, D4>;
    for (var d = 0u; d < D4; d += 1u) {
        key[d] = select(vec4(0.0), params.scale * widen(k[at + min(d, width - 1u)]), d < width);
        value[d] = select(vec4(0.0), widen(v[at + min(d, width - 1u)]), d < width);
        dkey[d] = vec4(0.0);
        dvalue[d] = vec4(0.0);
    }
    let key_step = select(0u, G, params.causal != 0u); // query t*G + g sees key s when s * key_step <= t*G + g
    for (var first = first_key * key_step; first < rows; first += QUERIES) {
        workgroupBarrier();
        for (var i = lane; i < QUERIES * D4; i += 64u) {
            // Beyond the last query and the last channel the tile holds repeats: neither is counted.
            let row = min(first + i / D4, rows - 1u);
            let source = ((b * params.T + row / G) * params.H + kv * G + row % G) * width + min(i % D4, width - 1u);
            query_tile[i] = widen(q[source]);
            upstream_tile[i] = widen(dy[source]);
        }
        if lane < QUERIES {
            let row = min(first + lane, rows - 1u);
            let source = (b * params.H + kv * G + row % G) * params.T + row / G;
            lse_tile[lane] = lse[source];
            delta_tile[lane] = delta[source];
        }
        workgroupBarrier();
        for (var j = 0u; j < min(QUERIES, rows - first); j += 4u) {
            let tile = j * D4;
            var score = vec4(0.0);
            var dp = vec4(0.0);
            for (var d = 0u; d < D4; d += 1u) {
                score += vec4(
                    dot(key[d], query_tile[tile + d]),
                    dot(key[d], query_tile[tile + D4 + d]),
                    dot(key[d], query_tile[tile + 2u * D4 + d]),
                    dot(key[d], query_tile[tile + 3u * D4 + d]),
                );
                dp += vec4(
                    dot(value[d], upstream_tile[tile + d]),
                    dot(value[d], upstream_tile[tile + D4 + d]),
                    dot(value[d], upstream_tile[tile + 2u * D4 + d]),
                    dot(value[d], upstream_tile[tile + 3u * D4 + d]),
                );
            }
            let row = vec4(first + j) + vec4(0u, 1u, 2u, 3u);
            let seen = (row < vec4(rows)) & (vec4(s * key_step) <= row);
            let lse_row = vec4(lse_tile[j], lse_tile[j + 1u], lse_tile[j + 2u], lse_tile[j + 3u]);
            let delta_row = vec4(delta_tile[j], delta_tile[j + 1u], delta_tile[j + 2u], delta_tile[j + 3u]);
            let p = exp(select(vec4(-3.0e38), score - lse_row, seen));
            let ds = p * (dp - delta_row);
            for (var d = 0u; d < D4; d += 1u) {
                dkey[d] = fma(vec4(ds.x), query_tile[tile + d], dkey[d]);
                dkey[d] = fma(vec4(ds.y), query_tile[tile + D4 + d], dkey[d]);
                dkey[d] = fma(vec4(ds.z), query_tile[tile + 2u * D4 + d], dkey[d]);
                dkey[d] = fma(vec4(ds.w), query_tile[tile + 3u * D4 + d], dkey[d]);
                dvalue[d] = fma(vec4(p.x), upstream_tile[tile + d], dvalue[d]);
                dvalue[d] = fma(vec4(p.y), upstream_tile[tile + D4 + d], dvalue[d]);
                dvalue[d] = fma(vec4(p.z), upstream_tile[tile + 2u * D4 + d], dvalue[d]);
                dvalue[d] = fma(vec4(p.w), upstream_tile[tile + 3u * D4 + d], dvalue[d]);
            }
        }
    }
    if first_key + lane < params.T {
        for (var d = 0u; d < min(D4, width); d += 1u) {
            dk[at + d] = narrow(params.scale * dkey[d]);
            dv[at + d] = narrow(dvalue[d]);
        }
    }
}
