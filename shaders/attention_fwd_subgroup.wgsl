// y[b,t,h] = sum_s p_s v[b,s,h/G] / sum_s p_s, p_s = exp(scale q.k_s - m), lse = m + ln(sum_s p_s)   (FlashAttention-2, Dao 2023, alg. 1)
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

@group(0) @binding(0) var<storage, read> q: array<Stored4>;          // (B, T, H, D/4)
@group(0) @binding(1) var<storage, read> k: array<Stored4>;          // (B, T, KV, D/4)
@group(0) @binding(2) var<storage, read> v: array<Stored4>;          // (B, T, KV, D/4)
@group(0) @binding(3) var<storage, read_write> y: array<Stored4>;    // (B, T, H, D/4)
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;      // (B, H, T)
@group(0) @binding(5) var<uniform> params: Params;

const C: u32 = 1u; // vec4s of a row that a lane owns

// Four channels (columns) of four keys (rows).
fn keys(at: vec4<u32>) -> mat4x4<f32> {
    return transpose(mat4x4(widen(k[at.x]), widen(k[at.y]), widen(k[at.z]), widen(k[at.w])));
}

fn values(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(widen(v[at.x]), widen(v[at.y]), widen(v[at.z]), widen(v[at.w]));
}

@compute @workgroup_size(8)
fn attention_fwd(
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
    let channel = min(lane * C, width - C); // lanes beyond the row's end repeat the last: nobody asks them

    var q0: array<vec4<f32>, ROWS>;
    var q1: array<vec4<f32>, ROWS>;
    var sum0: array<vec4<f32>, ROWS>;
    var sum1: array<vec4<f32>, ROWS>;
    var m: array<f32, ROWS>;
    var l: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r += 1u) {
        let row = min(first_row + r, rows - 1u);
        let at = ((b * params.T + row / G) * params.H + kv * G + row % G) * width + channel;
        q0[r] = params.scale * widen(q[at]);
        if C > 1u { q1[r] = params.scale * widen(q[at + 1u]); }
        m[r] = -3.0e38;
    }
    let causal = params.causal != 0u;
    let end = select(params.T, min(first_row + ROWS - 1u, rows - 1u) / G + 1u, causal);
    let row_step = select(0u, 1u, causal);
    let key_step = select(1u, G, causal);
    let bound = select(params.T - 1u, first_row, causal);
    let stride = params.KV * width;
    let keys_at = b * params.T * stride + kv * width;
    for (var first = 0u; first < end; first += 32u) {
        let own = first + 4u * lane + vec4(0u, 1u, 2u, 3u);
        let at = keys_at + min(own, vec4(params.T - 1u)) * stride;
        var s: array<vec4<f32>, ROWS>;
        for (var i = 0u; i < width / C; i += 1u) {
            add_product(&s, keys(at + i * C), &q0, i);
            if C > 1u { add_product(&s, keys(at + i * C + 1u), &q1, i); }
        }
        for (var r = 0u; r < ROWS; r += 1u) {
            let score = select(vec4(-3.0e38), s[r], own * key_step <= vec4(bound + r * row_step));
            var top = max(max(score.x, score.y), max(score.z, score.w));
            top = max(top, subgroupShuffleXor(top, 1u));
            top = max(top, subgroupShuffleXor(top, 2u));
            top = max(m[r], max(top, subgroupShuffleXor(top, 4u)));
            let shrink = exp(m[r] - top);
            m[r] = top;
            s[r] = exp(score - top);
            l[r] = fma(l[r], shrink, (s[r].x + s[r].y) + (s[r].z + s[r].w));
            sum0[r] *= shrink;
            if C > 1u { sum1[r] *= shrink; }
        }
        for (var i = 0u; i < 8u; i += 1u) {
            let row = keys_at + min(first + 4u * i + vec4(0u, 1u, 2u, 3u), vec4(params.T - 1u)) * stride + channel;
            add_product(&sum0, values(row), &s, i);
            if C > 1u { add_product(&sum1, values(row + 1u), &s, i); }
        }
    }
    for (var r = 0u; r < ROWS; r += 1u) {
        var total = l[r] + subgroupShuffleXor(l[r], 1u);
        total += subgroupShuffleXor(total, 2u);
        total += subgroupShuffleXor(total, 4u);
        let row = first_row + r;
        if row < rows {
            let t = row / G;
            let h = kv * G + row % G;
            if lane * C < width {
                let at = ((b * params.T + t) * params.H + h) * width + channel;
                y[at] = narrow(sum0[r] / total);
                if C > 1u { y[at + 1u] = narrow(sum1[r] / total); }
            }
            if lane == 0u {
                lse[(b * params.H + h) * params.T + t] = m[r] + log(total);
            }
        }
    }
}
