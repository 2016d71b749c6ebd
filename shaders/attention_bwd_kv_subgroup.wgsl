// dv[b,s] = sum_t,g p dy[b,t,h], dk[b,s] = scale sum_t,g p (dy.v - delta) q[b,t,h], p = exp(scale q.k - lse)   (FlashAttention-2, Dao 2023, alg. 2)
// A subgroup owns ROWS keys of one (b, kv) and walks the queries of the G heads that share them, counted t*G + g, 32 at a time.
// A lane owns C vec4s of channels of every key and, in the scores, 4 queries; shuffles pass the rest round.
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
@group(0) @binding(6) var<storage, read_write> dk: array<Stored4>;    // (B, T, KV, D/4)
@group(0) @binding(7) var<storage, read_write> dv: array<Stored4>;    // (B, T, KV, D/4)
@group(0) @binding(8) var<uniform> params: Params;

const C: u32 = 1u; // vec4s of a row that a lane owns

fn queries(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(widen(q[at.x]), widen(q[at.y]), widen(q[at.z]), widen(q[at.w]));
}

fn gradients(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(widen(dy[at.x]), widen(dy[at.y]), widen(dy[at.z]), widen(dy[at.w]));
}

@compute @workgroup_size(8)
fn attention_bwd_kv(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
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
    let channel = min(lane * C, width - C); // lanes beyond the row's end repeat its last: nobody asks them

    var k0: array<vec4<f32>, ROWS>;
    var k1: array<vec4<f32>, ROWS>;
    var v0: array<vec4<f32>, ROWS>;
    var v1: array<vec4<f32>, ROWS>;
    var dk0: array<vec4<f32>, ROWS>;
    var dk1: array<vec4<f32>, ROWS>;
    var dv0: array<vec4<f32>, ROWS>;
    var dv1: array<vec4<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r += 1u) {
        let s = min(first_key + r, params.T - 1u); // the last tile's tail repeats the last key, and is not stored
        let at = ((b * params.T + s) * params.KV + kv) * width + channel;
        k0[r] = params.scale * widen(k[at]);
        v0[r] = widen(v[at]);
        if C > 1u {
            k1[r] = params.scale * widen(k[at + 1u]);
            v1[r] = widen(v[at + 1u]);
        }
    }
    let key_step = select(0u, G, params.causal != 0u); // query row t*G + g sees key s when s * key_step <= row
    for (var first = first_key * key_step; first < rows; first += 32u) {
        let own = first + 4u * lane + vec4(0u, 1u, 2u, 3u);
        let query = min(own, vec4(rows - 1u)); // beyond the last one p is set to 0
        let t = query / G;
        let h = kv * G + query % G;
        let at = ((b * params.T + t) * params.H + h) * width;
        let n = (b * params.H + h) * params.T + t;
        let lse_row = vec4(lse[n.x], lse[n.y], lse[n.z], lse[n.w]);
        let delta_row = vec4(delta[n.x], delta[n.y], delta[n.z], delta[n.w]);
        var p: array<vec4<f32>, ROWS>;
        var dp: array<vec4<f32>, ROWS>;
        for (var i = 0u; i < width / C; i += 1u) {
            add_product(&p, transpose(queries(at + i * C)), &k0, i);
            add_product(&dp, transpose(gradients(at + i * C)), &v0, i);
            if C > 1u {
                add_product(&p, transpose(queries(at + i * C + 1u)), &k1, i);
                add_product(&dp, transpose(gradients(at + i * C + 1u)), &v1, i);
            }
        }
        for (var r = 0u; r < ROWS; r += 1u) {
            let seen = (own < vec4(rows)) & (vec4((first_key + r) * key_step) <= own);
            p[r] = exp(select(vec4(-3.0e38), p[r] - lse_row, seen));
            dp[r] = p[r] * (dp[r] - delta_row);
        }
        for (var i = 0u; i < 8u; i += 1u) {
            let row = subgroupShuffle(at, i) + channel;
            add_product(&dv0, gradients(row), &p, i);
            add_product(&dk0, queries(row), &dp, i);
            if C > 1u {
                add_product(&dv1, gradients(row + 1u), &p, i);
                add_product(&dk1, queries(row + 1u), &dp, i);
            }
        }
    }
    for (var r = 0u; r < ROWS; r += 1u) {
        let s = first_key + r;
        if s < params.T && lane * C < width {
            let at = ((b * params.T + s) * params.KV + kv) * width + channel;
            dk[at] = narrow(params.scale * dk0[r]);
            dv[at] = narrow(dv0[r]);
            if C > 1u {
                dk[at + 1u] = narrow(params.scale * dk1[r]);
                dv[at + 1u] = narrow(dv1[r]);
            }
        }
    }
}
