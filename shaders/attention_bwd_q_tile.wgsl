// dq[b,t,h] = scale sum_s p_s (dy.v_s - delta) k_s, p_s = exp(scale q.k_s - lse)   (FlashAttention-2, Dao 2023, alg. 2)
// A workgroup owns ROWS query rows of one (b, kv), counted row = t*G + g over the heads that share its keys; SPLIT lanes own one row,
// each every SPLIT-th vec4 of its channels. Keys and values come through workgroup memory, BLOCK at a time, of which a lane takes four
// at once; the scores and dy.v are added up over the lanes of a row there, too.
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

// Set by the variant: lanes of a row, lanes, keys in memory. A lane has room for D4 vec4s: three arrays of 8 are 96 registers.
const SPLIT: u32 = 1u;
const LANES: u32 = 64u;
const BLOCK: u32 = 16u;
const D4: u32 = 8u;
const ROWS: u32 = LANES / SPLIT;
const WIDTH: u32 = D4 * SPLIT; // vec4s of a row in the tiles

var<workgroup> key_tile: array<vec4<f32>, BLOCK * WIDTH>;
var<workgroup> value_tile: array<vec4<f32>, BLOCK * WIDTH>;
var<workgroup> score_parts: array<vec4<f32>, BLOCK / 4u * LANES>; // (four keys, lane)
var<workgroup> dp_parts: array<vec4<f32>, BLOCK / 4u * LANES>; // (four keys, lane)

@compute @workgroup_size(LANES)
fn attention_bwd_q(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    let G = params.H / params.KV;
    let rows = params.T * G;
    let tiles = (rows + ROWS - 1u) / ROWS;
    let kv = group / tiles % params.KV;
    let b = group / tiles / params.KV;
    if b >= params.B { return; } // the fold's overshoot
    let width = params.D / 4u;
    let part = lane % SPLIT;
    let first_row = group % tiles * ROWS;
    let row = min(first_row + lane / SPLIT, rows - 1u); // the last tile's tail repeats the last row, and is not stored
    let t = row / G;
    let h = kv * G + row % G;
    let at = ((b * params.T + t) * params.H + h) * width;

    var query: array<vec4<f32>, D4>;
    var upstream: array<vec4<f32>, D4>;
    var sum: array<vec4<f32>, D4>;
    for (var d = 0u; d < D4; d += 1u) {
        let channel = part + d * SPLIT;
        query[d] = select(vec4(0.0), params.scale * widen(q[at + min(channel, width - 1u)]), channel < width);
        upstream[d] = select(vec4(0.0), widen(dy[at + min(channel, width - 1u)]), channel < width);
        sum[d] = vec4(0.0);
    }
    let lse_row = lse[(b * params.H + h) * params.T + t];
    let delta_row = delta[(b * params.H + h) * params.T + t];
    let last = select(params.T - 1u, t, params.causal != 0u); // last key that the row sees
    let end = select(params.T, min(first_row + ROWS - 1u, rows - 1u) / G + 1u, params.causal != 0u);
    for (var first = 0u; first < end; first += BLOCK) {
        workgroupBarrier();
        for (var i = lane; i < BLOCK * WIDTH; i += LANES) {
            // Beyond the last key and the last channel the tile holds repeats: neither is counted.
            let source = ((b * params.T + min(first + i / WIDTH, params.T - 1u)) * params.KV + kv) * width + min(i % WIDTH, width - 1u);
            key_tile[i] = widen(k[source]);
            value_tile[i] = widen(v[source]);
        }
        workgroupBarrier();
        let keys = min(BLOCK, end - first);
        for (var j = 0u; j < keys; j += 4u) {
            var s = vec4(0.0);
            var dp = vec4(0.0);
            for (var d = 0u; d < D4; d += 1u) {
                let key = j * WIDTH + part + d * SPLIT;
                s += vec4(
                    dot(query[d], key_tile[key]),
                    dot(query[d], key_tile[key + WIDTH]),
                    dot(query[d], key_tile[key + 2u * WIDTH]),
                    dot(query[d], key_tile[key + 3u * WIDTH]),
                );
                dp += vec4(
                    dot(upstream[d], value_tile[key]),
                    dot(upstream[d], value_tile[key + WIDTH]),
                    dot(upstream[d], value_tile[key + 2u * WIDTH]),
                    dot(upstream[d], value_tile[key + 3u * WIDTH]),
                );
            }
            score_parts[j / 4u * LANES + lane] = s;
            dp_parts[j / 4u * LANES + lane] = dp;
        }
        if SPLIT > 1u { workgroupBarrier(); }
        for (var j = 0u; j < keys; j += 4u) {
            var s = vec4(0.0);
            var dp = vec4(0.0);
            for (var i = 0u; i < SPLIT; i += 1u) {
                s += score_parts[j / 4u * LANES + lane - part + i];
                dp += dp_parts[j / 4u * LANES + lane - part + i];
            }
            let seen = vec4(first + j) + vec4(0u, 1u, 2u, 3u) <= vec4(last);
            let ds = exp(select(vec4(-3.0e38), s - lse_row, seen)) * (dp - delta_row);
            for (var d = 0u; d < D4; d += 1u) {
                let key = j * WIDTH + part + d * SPLIT;
                sum[d] = fma(vec4(ds.x), key_tile[key], sum[d]);
                sum[d] = fma(vec4(ds.y), key_tile[key + WIDTH], sum[d]);
                sum[d] = fma(vec4(ds.z), key_tile[key + 2u * WIDTH], sum[d]);
                sum[d] = fma(vec4(ds.w), key_tile[key + 3u * WIDTH], sum[d]);
            }
        }
    }
    if first_row + lane / SPLIT < rows {
        for (var d = 0u; d < D4; d += 1u) {
            let channel = part + d * SPLIT;
            if channel < width { dq[at + channel] = narrow(params.scale * sum[d]); }
        }
    }
}
