// y[m, n] (+)= sum_k x[k, m] * w[k, n]        (y = x^T w: dw = dy^T x of a linear layer)
// A workgroup owns 64 tiles of TM rows by 4 columns of y; a lane owns one tile, and neighbours are neighbours in n.
// No shared memory and no subgroups: the caches bring lanes of a row the same x.
#import grid, stored

struct Params {
    groups: u32,
    group_offset: u32,
    M: u32,
    N: u32,
    K: u32,
    x_stride: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;          // (K, x_stride), columns from M on are padding
@group(0) @binding(1) var<storage, read> w: array<Stored4>;          // (K, N)
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;  // (M, N)
@group(0) @binding(3) var<uniform> params: Params;

// Rows of a tile. lavapipe, 512^3, GFLOP per CPU second: 16 rows 3.5, 8 rows 2.7, 4 rows 2.1; more would spill elsewhere.
const TM: u32 = 8u;

@compute @workgroup_size(64)
fn matmul_tn(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let M = params.M;
    let N = params.N;
    let K = params.K;
    let N4 = N / 4u;
    let x_stride4 = params.x_stride / 4u;
    let row = tile / N4 * TM;
    let column = tile % N4 * 4u;
    if row >= M { return; } // the last group's tail, and the fold's overshoot

    var sum: array<vec4<f32>, TM>;
    for (var k = 0u; k < K; k += 1u) {
        let w_kn = widen(w[k * N4 + column / 4u]);
        for (var i = 0u; i < TM; i += 4u) {
            // Beyond the last column that one again.
            let x_km = widen(x[k * x_stride4 + min((row + i) / 4u, x_stride4 - 1u)]);
            sum[i] = fma(vec4(x_km.x), w_kn, sum[i]);
            sum[i + 1u] = fma(vec4(x_km.y), w_kn, sum[i + 1u]);
            sum[i + 2u] = fma(vec4(x_km.z), w_kn, sum[i + 2u]);
            sum[i + 3u] = fma(vec4(x_km.w), w_kn, sum[i + 3u]);
        }
    }

    for (var i = 0u; i < TM; i += 1u) {
        if row + i < M {
            let at = (row + i) * N4 + column / 4u;
            var value = sum[i];
            if params.accumulate != 0u { value += y[at]; }
            y[at] = value;
        }
    }
}
