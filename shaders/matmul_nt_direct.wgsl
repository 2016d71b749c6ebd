// y[m, n] (+)= sum_k x[m, k] * w[n, k]        (y = x w^T: a linear layer, forward)
// A workgroup owns 64 tiles of TM rows by 4 columns of y; a lane owns one tile, and neighbours are neighbours in n.
// No shared memory and no subgroups: the caches bring lanes of a row the same x.
#import grid, result, stored

struct Params {
    groups: u32,
    group_offset: u32,
    M: u32,
    N: u32,
    K: u32,
    y_stride: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;          // (M, K)
@group(0) @binding(1) var<storage, read> w: array<Stored4>;          // (N, K)
@group(0) @binding(2) var<storage, read_write> y: array<Result4>;    // (M, y_stride), columns from N on are zeros
@group(0) @binding(3) var<uniform> params: Params;

// Rows of a tile. lavapipe, 512^3, GFLOP per CPU second: 16 rows 3.5, 8 rows 2.7, 4 rows 2.1; more would spill elsewhere.
const TM: u32 = 8u;

@compute @workgroup_size(64)
fn matmul_nt(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let M = params.M;
    let N = params.N;
    let K = params.K;
    let K4 = K / 4u;
    let y_stride4 = params.y_stride / 4u;
    let row = tile / y_stride4 * TM;
    let column = tile % y_stride4 * 4u;
    if row >= M { return; } // the last group's tail, and the fold's overshoot

    var sum: array<vec4<f32>, TM>;
    // Beyond the edges the last row of w and of x again.
    let w_row = min(vec4(column) + vec4(0u, 1u, 2u, 3u), vec4(N - 1u)) * K4;
    for (var k4 = 0u; k4 < K4; k4 += 1u) {
        let w_nk = mat4x4(widen(w[w_row.x + k4]), widen(w[w_row.y + k4]), widen(w[w_row.z + k4]), widen(w[w_row.w + k4]));
        let w_kn = transpose(w_nk);
        for (var i = 0u; i < TM; i += 1u) {
            sum[i] += w_kn * widen(x[min(row + i, M - 1u) * K4 + k4]);
        }
    }

    // Columns of padding, where w had no row: zeros.
    let inside = vec4(column) + vec4(0u, 1u, 2u, 3u) < vec4(N);
    for (var i = 0u; i < TM; i += 1u) {
        if row + i < M {
            let at = (row + i) * y_stride4 + column / 4u;
            var value = select(vec4(0.0), sum[i], inside);
            if params.accumulate != 0u { value += widen_result(y[at]); }
            y[at] = narrow_result(value);
        }
    }
}
