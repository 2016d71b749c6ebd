// dv[b,s] = sum_t,g p dy[b,t,h], dk[b,s] = scale sum_t,g p (dy.v - delta) q[b,t,h], p = exp(scale q.k - lse)   (FlashAttention-2, Dao 2023, alg. 2)
// A workgroup owns ROWS keys of one (b, kv); SPLIT lanes own one key, each every SPLIT-th vec4 of its channels. The queries of the G
// heads that share them, counted t*G + g, come with their dy, lse and delta through workgroup memory, BLOCK at a time, of which a lane
// takes four at once; the scores and dy.v are added up over the lanes of a key there, too.
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

// Set by the variant: lanes of a key, lanes, queries in memory. A lane has room for D4 vec4s: four arrays of 8 are 128 registers.
const SPLIT: u32 = 1u;
const LANES: u32 = 64u;
const BLOCK: u32 = 16u;
const D4: u32 = 8u;
const ROWS: u32 = LANES / SPLIT;
const WIDTH: u32 = D4 * SPLIT; // vec4s of a row in the tiles

var<workgroup> query_tile: array<vec4<f32>, BLOCK * WIDTH>;
var<workgroup> upstream_tile: array<vec4<f32>, BLOCK * WIDTH>;
var<workgroup> score_parts: array<vec4<f32>, BLOCK / 4u * LANES>; // (four queries, lane)
var<workgroup> dp_parts: array<vec4<f32>, BLOCK / 4u * LANES>; // (four queries, lane)
var<workgroup> lse_tile: array<f32, BLOCK>;
var<workgroup> delta_tile: array<f32, BLOCK>;

@compute @workgroup_size(LANES)
fn attention_bwd_kv(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    let G = params.H / params.KV;
    let rows = params.T * G;
    let tiles = (params.T + ROWS - 1u) / ROWS;
    let kv = group / tiles % params.KV;
    let b = group / tiles / params.KV;
    if b >= params.B { return; } // the fold's overshoot
    let width = params.D / 4u;
    let part = lane % SPLIT;
    let first_key = group % tiles * ROWS;
    let s = min(first_key + lane / SPLIT, params.T - 1u); // the last tile's tail repeats the last key, and is not stored
    let at = ((b * params.T + s) * params.KV + kv) * width;

    var key: array<vec4<f32>, D4>;
    var value: array<vec4<f32>, D4>;
    var dkey: array<vec4<f32>, D4>;
    var dvalue: array<vec4<f32>, D4>;
    for (var d = 0u; d < D4; d += 1u) {
        let channel = part + d * SPLIT;
        key[d] = select(vec4(0.0), params.scale * widen(k[at + min(channel, width - 1u)]), channel < width);
        value[d] = select(vec4(0.0), widen(v[at + min(channel, width - 1u)]), channel < width);
        dkey[d] = vec4(0.0);
        dvalue[d] = vec4(0.0);
    }
    let key_step = select(0u, G, params.causal != 0u); // query t*G + g sees key s when s * key_step <= t*G + g
    for (var first = first_key * key_step; first < rows; first += BLOCK) {
        workgroupBarrier();
        for (var i = lane; i < BLOCK * WIDTH; i += LANES) {
            // Beyond the last query and the last channel the tile holds repeats: neither is counted.
            let row = min(first + i / WIDTH, rows - 1u);
            let source = ((b * params.T + row / G) * params.H + kv * G + row % G) * width + min(i % WIDTH, width - 1u);
            query_tile[i] = widen(q[source]);
            upstream_tile[i] = widen(dy[source]);
        }
        if lane < BLOCK {
            let row = min(first + lane, rows - 1u);
            let source = (b * params.H + kv * G + row % G) * params.T + row / G;
            lse_tile[lane] = lse[source];
            delta_tile[lane] = delta[source];
        }
        workgroupBarrier();
        let queries = min(BLOCK, rows - first);
        for (var j = 0u; j < queries; j += 4u) {
            var score = vec4(0.0);
            var dp = vec4(0.0);
            for (var d = 0u; d < D4; d += 1u) {
                let query = j * WIDTH + part + d * SPLIT;
                score += vec4(
                    dot(key[d], query_tile[query]),
                    dot(key[d], query_tile[query + WIDTH]),
                    dot(key[d], query_tile[query + 2u * WIDTH]),
                    dot(key[d], query_tile[query + 3u * WIDTH]),
                );
                dp += vec4(
                    dot(value[d], upstream_tile[query]),
                    dot(value[d], upstream_tile[query + WIDTH]),
                    dot(value[d], upstream_tile[query + 2u * WIDTH]),
                    dot(value[d], upstream_tile[query + 3u * WIDTH]),
                );
            }
            score_parts[j / 4u * LANES + lane] = score;
            dp_parts[j / 4u * LANES + lane] = dp;
        }
        if SPLIT > 1u { workgroupBarrier(); }
        for (var j = 0u; j < queries; j += 4u) {
            var score = vec4(0.0);
            var dp = vec4(0.0);
            for (var i = 0u; i < SPLIT; i += 1u) {
                score += score_parts[j / 4u * LANES + lane - part + i];
                dp += dp_parts[j / 4u * LANES + lane - part + i];
            }
            let row = vec4(first + j) + vec4(0u, 1u, 2u, 3u);
            let seen = (row < vec4(rows)) & (vec4(s * key_step) <= row);
            let lse_row = vec4(lse_tile[j], lse_tile[j + 1u], lse_tile[j + 2u], lse_tile[j + 3u]);
            let delta_row = vec4(delta_tile[j], delta_tile[j + 1u], delta_tile[j + 2u], delta_tile[j + 3u]);
            let p = exp(select(vec4(-3.0e38), score - lse_row, seen));
            let ds = p * (dp - delta_row);
            for (var d = 0u; d < D4; d += 1u) {
                let query = j * WIDTH + part + d * SPLIT;
                dkey[d] = fma(vec4(ds.x), query_tile[query], dkey[d]);
                dkey[d] = fma(vec4(ds.y), query_tile[query + WIDTH], dkey[d]);
                dkey[d] = fma(vec4(ds.z), query_tile[query + 2u * WIDTH], dkey[d]);
                dkey[d] = fma(vec4(ds.w), query_tile[query + 3u * WIDTH], dkey[d]);
                dvalue[d] = fma(vec4(p.x), upstream_tile[query], dvalue[d]);
                dvalue[d] = fma(vec4(p.y), upstream_tile[query + WIDTH], dvalue[d]);
                dvalue[d] = fma(vec4(p.z), upstream_tile[query + 2u * WIDTH], dvalue[d]);
                dvalue[d] = fma(vec4(p.w), upstream_tile[query + 3u * WIDTH], dvalue[d]);
            }
        }
    }
    if first_key + lane / SPLIT < params.T {
        for (var d = 0u; d < D4; d += 1u) {
            let channel = part + d * SPLIT;
            if channel < width {
                dk[at + channel] = narrow(params.scale * dkey[d]);
                dv[at + channel] = narrow(dvalue[d]);
            }
        }
    }
}
