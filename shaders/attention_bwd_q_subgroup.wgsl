// dq[b,t,h] = scale sum_s p_s (dy.v_s - delta) k_s, p_s = exp(scale q.k_s - lse)   (FlashAttention-2, Dao 2023, alg. 2)
// A subgroup owns ROWS query rows of one (b, kv), counted row = t*G + g over the heads that share its keys, and walks the
// keys 32 at a time. A lane owns C vec4s of channels of every row and, in the scores, 4 keys; shuffles pass the rest round.
#import grid, row_tile, stored

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

const C: u32 = 1u; // vec4s of a row that a lane owns

fn keys(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(widen(k[at.x]), widen(k[at.y]), widen(k[at.z]), widen(k[at.w]));
}

fn values(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(widen(v[at.x]), widen(v[at.y]), widen(v[at.z]), widen(v[at.w]));
}

@compute @workgroup_size(8)
fn attention_bwd_q(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
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
    let channel = min(lane * C, width - C); // lanes beyond the row's end repeat its last: nobody asks them

    var q0: array<vec4<f32>, ROWS>;
    var q1: array<vec4<f32>, ROWS>;
    var dy0: array<vec4<f32>, ROWS>;
    var dy1: array<vec4<f32>, ROWS>;
    var dq0: array<vec4<f32>, ROWS>;
    var dq1: array<vec4<f32>, ROWS>;
    var lse_row: array<f32, ROWS>;
    var delta_row: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r += 1u) {
        let row = min(first_row + r, rows - 1u); // the last tile's tail repeats the last row, and is not stored
        let t = row / G;
        let h = kv * G + row % G;
        let at = ((b * params.T + t) * params.H + h) * width + channel;
        q0[r] = params.scale * widen(q[at]);
        dy0[r] = widen(dy[at]);
        if C > 1u {
            q1[r] = params.scale * widen(q[at + 1u]);
            dy1[r] = widen(dy[at + 1u]);
        }
        lse_row[r] = lse[(b * params.H + h) * params.T + t];
        delta_row[r] = delta[(b * params.H + h) * params.T + t];
    }
    // Row r sees key s when s * key_step <= bound + r * row_step: causal, s <= row / G; otherwise s < T.
    let causal = params.causal != 0u;
    let key_step = select(1u, G, causal);
    let row_step = select(0u, 1u, causal);
    let bound = select(params.T - 1u, first_row, causal);
    let end = select(params.T, min(first_row + ROWS - 1u, rows - 1u) / G + 1u, causal);
    let stride = params.KV * width;
    let kv_at = b * params.T * stride + kv * width;
    for (var first = 0u; first < end; first += 32u) {
        let own = first + 4u * lane + vec4(0u, 1u, 2u, 3u);
        let at = kv_at + min(own, vec4(params.T - 1u)) * stride;
        var s: array<vec4<f32>, ROWS>;
        var dp: array<vec4<f32>, ROWS>;
        for (var i = 0u; i < width / C; i += 1u) {
            add_product(&s, transpose(keys(at + i * C)), &q0, i);
            add_product(&dp, transpose(values(at + i * C)), &dy0, i);
            if C > 1u {
                add_product(&s, transpose(keys(at + i * C + 1u)), &q1, i);
                add_product(&dp, transpose(values(at + i * C + 1u)), &dy1, i);
            }
        }
        for (var r = 0u; r < ROWS; r += 1u) {
            let p = exp(select(vec4(-3.0e38), s[r] - lse_row[r], own * key_step <= vec4(bound + r * row_step)));
            s[r] = p * (dp[r] - delta_row[r]);
        }
        for (var i = 0u; i < 8u; i += 1u) {
            let row = subgroupShuffle(at, i) + channel;
            add_product(&dq0, keys(row), &s, i);
            if C > 1u { add_product(&dq1, keys(row + 1u), &s, i); }
        }
    }
    for (var r = 0u; r < ROWS; r += 1u) {
        let row = first_row + r;
        if row < rows && lane * C < width {
            let at = ((b * params.T + row / G) * params.H + kv * G + row % G) * width + channel;
            dq[at] = narrow(params.scale * dq0[r]);
            if C > 1u { dq[at + 1u] = narrow(params.scale * dq1[r]); }
        }
    }
}
