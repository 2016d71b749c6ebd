// y[b,t,h] = sum_s p_s v[b,s,h/G] / sum_s p_s, p_s = exp(scale q.k_s - m), lse = m + ln(sum_s p_s)   (FlashAttention-2, Dao 2023, alg. 1)
// A subgroup of 16 lanes owns 32 query rows of one (b, kv), counted row = t*G + g over the heads that share its keys, and
// walks the keys 64 at a time. For the scores a lane owns 4 keys; for y a vec4 of channels of its rows; workgroup memory
// turns the weights from the one order to the other.
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

@group(0) @binding(0) var<storage, read> q: array<Stored4>;          // (B, T, H, D/4)
@group(0) @binding(1) var<storage, read> k: array<Stored4>;          // (B, T, KV, D/4)
@group(0) @binding(2) var<storage, read> v: array<Stored4>;          // (B, T, KV, D/4)
@group(0) @binding(3) var<storage, read_write> y: array<Stored4>;    // (B, T, H, D/4)
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;      // (B, H, T)
@group(0) @binding(5) var<uniform> params: Params;

const SPLIT: u32 = 2u; // parts of the rows that the lanes' channels are of: 2 where D <= 32

var<workgroup> weights: array<vec4<f32>, ROWS * LANES>;  // (row, 4 keys)

@compute @workgroup_size(16)
fn attention_fwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    let G = params.H / params.KV;
    let rows = params.T * G;
    let tiles = (rows + ROWS - 1u) / ROWS;
    let first_row = group % tiles * ROWS;
    let kv = group / tiles % params.KV;
    let b = group / tiles / params.KV;
    if b >= params.B { return; } // the fold's overshoot
    let width = params.D / 4u;
    let upper = lane >= LANES / SPLIT;
    let channel = min(lane % (LANES / SPLIT), width - 1u); // lanes beyond the row's end repeat its last, and do not store

    var q_at: array<u32, SHARES>;
    for (var s = 0u; s < SHARES; s += 1u) {
        let row = min(first_row + s * LANES + lane, rows - 1u);
        let t = row / G;
        q_at[s] = ((b * params.T + t) * params.H + kv * G + row - t * G) * width;
    }
    // Row r sees key s when s * key_step <= bound + r * row_step: causal, s <= row / G; otherwise s < T.
    let causal = params.causal != 0u;
    let end = select(params.T, min(first_row + ROWS - 1u, rows - 1u) / G + 1u, causal);
    let row_step = select(0u, 1u, causal);
    let key_step = select(1u, G, causal);
    let bound = select(params.T - 1u, first_row, causal);
    let stride = params.KV * width;
    let keys_at = b * params.T * stride + kv * width;

    var sum: array<vec4<f32>, OWN_ROWS>;
    var m: array<f32, ROWS>;
    var l: array<f32, SHARES>; // of the lane's rows
    for (var r = 0u; r < ROWS; r += 1u) { m[r] = -3.0e38; }
    for (var first = 0u; first < end; first += 4u * LANES) {
        let own = first + 4u * lane + vec4(0u, 1u, 2u, 3u);
        let at = keys_at + min(own, vec4(params.T - 1u)) * stride;
        var score: array<vec4<f32>, ROWS>;
        for (var c = 0u; c < width; c += 1u) {
            var share = array(params.scale * widen(q[q_at[0] + c]), params.scale * widen(q[q_at[1] + c]));
            add_rows(&score, transpose(mat4x4(widen(k[at.x + c]), widen(k[at.y + c]), widen(k[at.z + c]), widen(k[at.w + c]))), &share);
        }
        var shrink: array<f32, ROWS>;
        for (var r = 0u; r < ROWS; r += 1u) {
            let seen = select(vec4(-3.0e38), score[r], own * key_step <= vec4(bound + r * row_step));
            let top = max(m[r], subgroupMax(max(max(seen.x, seen.y), max(seen.z, seen.w))));
            shrink[r] = exp(m[r] - top);
            m[r] = top;
            weights[r * LANES + lane] = exp(seen - top);
        }
        for (var i = 0u; i < OWN_ROWS; i += 1u) {
            sum[i] *= select(shrink[i], shrink[i + ROWS - OWN_ROWS], upper);
        }
        l = array(l[0] * shrink[lane], l[1] * shrink[LANES + lane]);
        subgroupBarrier();
        let fours = min((end - first + 3u) / 4u, LANES);
        for (var j = 0u; j < fours; j += 1u) {
            let row = keys_at + min(first + 4u * j + vec4(0u, 1u, 2u, 3u), vec4(params.T - 1u)) * stride + channel;
            var share = array(weights[lane * LANES + j], weights[(LANES + lane) * LANES + j]);
            l = array(l[0] + dot(share[0], vec4(1.0)), l[1] + dot(share[1], vec4(1.0)));
            add_own_rows(&sum, mat4x4(widen(v[row.x]), widen(v[row.y]), widen(v[row.z]), widen(v[row.w])), &share, upper);
        }
        subgroupBarrier();
    }
    for (var s = 0u; s < SHARES; s += 1u) {
        let row = first_row + s * LANES + lane;
        let t = row / G;
        if row < rows { lse[(b * params.H + kv * G + row - t * G) * params.T + t] = m[s * LANES + lane] + log(l[s]); }
    }
    let stored = lane % (LANES / SPLIT) < width;
    let own_row = first_row + select(0u, ROWS - OWN_ROWS, upper);
    for (var i = 0u; i < OWN_ROWS; i += 1u) {
        let at = own_row_address(&q_at, i, upper) + channel;
        let value = sum[i] / own_row_number(&l, i, upper);
        if stored && own_row + i < rows { y[at] = narrow(value); }
    }
}
