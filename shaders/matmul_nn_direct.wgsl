// y[m, n] (+)= sum_k x[m, k] * w[k, n]        (y = x w: dx = dy w of a linear layer)
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

@group(0) @binding(0) var<storage, read> x: array<Stored4>;          // (M, x_stride), columns from K on are padding
@group(0) @binding(1) var<storage, read> w: array<Stored4>;          // (K, N)
@group(0) @binding(2) var<storage, read_write> y: array<Stored4>;    // (M, N)
@group(0) @binding(3) var<uniform> params: Params;

// Rows of a tile. lavapipe, 512^3, GFLOP per CPU second: 16 rows 3.5, 8 rows 2.7, 4 rows 2.1; more would spill elsewhere.
const TM: u32 = 8u;

@compute @workgroup_size(64)
fn matmul_nn(
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
    for (var k = 0u; k < K; k += 4u) {
        // The last step may reach beyond K: into padding in x, which counts as zero, and for w the last row again.
        let inside = vec4(k) + vec4(0u, 1u, 2u, 3u) < vec4(K);
        let w_row = min(vec4(k) + vec4(0u, 1u, 2u, 3u), vec4(K - 1u)) * N4 + column / 4u;
        let w_kn = mat4x4(widen(w[w_row.x]), widen(w[w_row.y]), widen(w[w_row.z]), widen(w[w_row.w]));
        for (var i = 0u; i < TM; i += 1u) {
            // Beyond the last row that one again.
            let x_mk = widen(x[min(row + i, M - 1u) * x_stride4 + k / 4u]);
            sum[i] += w_kn * select(vec4(0.0), x_mk, inside);
        }
    }

    for (var i = 0u; i < TM; i += 1u) {
        if row + i < M {
            let at = (row + i) * N4 + column / 4u;
            var value = sum[i];
            if params.accumulate != 0u { value += widen(y[at]); }
            y[at] = narrow(value);
        }
    }
}
