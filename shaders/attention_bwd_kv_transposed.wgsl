// dv[b,s] = sum_t,g p dy[b,t,h], dk[b,s] = scale sum_t,g p (dy.v - delta) q[b,t,h], p = exp(scale q.k - lse)   (FlashAttention-2, Dao 2023, alg. 2)
// A subgroup of 16 lanes owns 32 keys of one (b, kv) and walks the queries of the G heads that share them, counted t*G + g,
// 64 at a time. For the scores a lane owns 4 queries; for dk and dv a vec4 of channels of its keys; workgroup memory turns
// weights, then their gradients, from the one order to the other.
#import grid, row_lanes, split_rows, stored

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

const SPLIT: u32 = 2u; // parts of the keys that the lanes' channels are of: 2 where D <= 32

var<workgroup> turned: array<vec4<f32>, ROWS * LANES>;     // (key, 4 queries)
var<workgroup> queries_at: array<vec4<u32>, LANES>;        // where each lane's queries begin in q and dy

@compute @workgroup_size(16)
fn attention_bwd_kv(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    let G = params.H / params.KV;
    let rows = params.T * G;
    let tiles = (params.T + ROWS - 1u) / ROWS;
    let first_key = group % tiles * ROWS;
    let kv = group / tiles % params.KV;
    let b = group / tiles / params.KV;
    if b >= params.B { return; } // the fold's overshoot
    let width = params.D / 4u;
    let upper = lane >= LANES / SPLIT;
    let channel = min(lane % (LANES / SPLIT), width - 1u); // lanes beyond the row's end repeat its last, and do not store

    var key_at: array<u32, SHARES>;
    for (var s = 0u; s < SHARES; s += 1u) {
        let key = min(first_key + s * LANES + lane, params.T - 1u); // beyond the last key that one again, not stored
        key_at[s] = ((b * params.T + key) * params.KV + kv) * width;
    }
    var dk_sum: array<vec4<f32>, OWN_ROWS>;
    var dv_sum: array<vec4<f32>, OWN_ROWS>;
    let key_step = select(0u, G, params.causal != 0u); // query row t*G + g sees key s when s * key_step <= row
    for (var first = first_key * key_step; first < rows; first += 4u * LANES) {
        let own = first + 4u * lane + vec4(0u, 1u, 2u, 3u);
        let query = min(own, vec4(rows - 1u)); // beyond the last one p is set to 0
        let t = query / G;
        let h = kv * G + query - t * G;
        let at = ((b * params.T + t) * params.H + h) * width;
        let n = (b * params.H + h) * params.T + t;
        let lse_row = vec4(lse[n.x], lse[n.y], lse[n.z], lse[n.w]);
        let delta_row = vec4(delta[n.x], delta[n.y], delta[n.z], delta[n.w]);
        var p: array<vec4<f32>, ROWS>;
        var ds: array<vec4<f32>, ROWS>;
        for (var c = 0u; c < width; c += 1u) {
            var share = array(params.scale * widen(k[key_at[0] + c]), params.scale * widen(k[key_at[1] + c]));
            add_rows(&p, transpose(mat4x4(widen(q[at.x + c]), widen(q[at.y + c]), widen(q[at.z + c]), widen(q[at.w + c]))), &share);
            share = array(widen(v[key_at[0] + c]), widen(v[key_at[1] + c]));
            add_rows(&ds, transpose(mat4x4(widen(dy[at.x + c]), widen(dy[at.y + c]), widen(dy[at.z + c]), widen(dy[at.w + c]))), &share);
        }
        for (var r = 0u; r < ROWS; r += 1u) {
            let seen = (own < vec4(rows)) & (vec4((first_key + r) * key_step) <= own);
            p[r] = exp(select(vec4(-3.0e38), p[r] - lse_row, seen));
            ds[r] = p[r] * (ds[r] - delta_row);
            turned[r * LANES + lane] = p[r];
        }
        queries_at[lane] = at;
        subgroupBarrier();
        let fours = min((rows - first + 3u) / 4u, LANES);
        for (var j = 0u; j < fours; j += 1u) {
            let row = queries_at[j] + channel;
            var share = array(turned[lane * LANES + j], turned[(LANES + lane) * LANES + j]);
            add_own_rows(&dv_sum, mat4x4(widen(dy[row.x]), widen(dy[row.y]), widen(dy[row.z]), widen(dy[row.w])), &share, upper);
        }
        subgroupBarrier();
        for (var r = 0u; r < ROWS; r += 1u) { turned[r * LANES + lane] = ds[r]; }
        subgroupBarrier();
        for (var j = 0u; j < fours; j += 1u) {
            let row = queries_at[j] + channel;
            var share = array(turned[lane * LANES + j], turned[(LANES + lane) * LANES + j]);
            add_own_rows(&dk_sum, mat4x4(widen(q[row.x]), widen(q[row.y]), widen(q[row.z]), widen(q[row.w])), &share, upper);
        }
        subgroupBarrier();
    }
    if lane % (LANES / SPLIT) >= width { return; }
    let own_key = first_key + select(0u, ROWS - OWN_ROWS, upper);
    for (var i = 0u; i < OWN_ROWS; i += 1u) {
        if own_key + i < params.T {
            let at = ((b * params.T + own_key + i) * params.KV + kv) * width + channel;
            dk[at] = narrow(params.scale * dk_sum[i]);
            dv[at] = narrow(dv_sum[i]);
        }
    }
}
