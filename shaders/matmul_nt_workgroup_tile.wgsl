// y[m, n] (+)= sum_k x[m, k] * w[n, k]        (y = x w^T: a linear layer, forward)
// A workgroup owns 64 by 64 outputs; a lane owns 4 by 4 of them, 16 apart. Steps of 16 in k go through workgroup memory.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    M: u32,
    N: u32,
    K: u32,
    y_stride: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;        // (M, K)
@group(0) @binding(1) var<storage, read> w: array<f32>;        // (N, K)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (M, y_stride), columns from N on are zeros
@group(0) @binding(3) var<uniform> params: Params;

// Outputs of a workgroup each way, and the k of one step.
const TILE: u32 = 64u;
const TK: u32 = 16u;
// One more than a row, so that lanes that write a column do not meet in a bank.
const ROW: u32 = TILE + 1u;

var<workgroup> x_tile: array<f32, TK * ROW>;  // (k, m)
var<workgroup> w_tile: array<f32, TK * ROW>;  // (k, n)

@compute @workgroup_size(256)
fn matmul_nt(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    if group >= params.groups { return; } // the fold's overshoot
    let M = params.M;
    let N = params.N;
    let K = params.K;
    let column_tiles = (params.y_stride + TILE - 1u) / TILE;
    let first_row = group / column_tiles * TILE;
    let first_column = group % column_tiles * TILE;
    let row = lane / 16u;
    let column = lane % 16u;

    var sum: array<vec4<f32>, 4>;
    for (var k0 = 0u; k0 < K; k0 += TK) {
        // Neighbouring lanes read neighbouring addresses; beyond an edge the last element is read and zero is kept.
        for (var i = lane; i < TILE * TK; i += 256u) {
            let m = first_row + i / TK;
            let m_k = k0 + i % TK;
            let x_at = min(m, M - 1u) * K + min(m_k, K - 1u);
            x_tile[i % TK * ROW + i / TK] = select(0.0, x[x_at], m < M && m_k < K);
            let n = first_column + i / TK;
            let n_k = k0 + i % TK;
            let w_at = min(n, N - 1u) * K + min(n_k, K - 1u);
            w_tile[i % TK * ROW + i / TK] = select(0.0, w[w_at], n < N && n_k < K);
        }
        workgroupBarrier();
        for (var k = 0u; k < TK; k += 1u) {
            let w_at = k * ROW + column;
            let w_kn = vec4(w_tile[w_at], w_tile[w_at + 16u], w_tile[w_at + 32u], w_tile[w_at + 48u]);
            for (var i = 0u; i < 4u; i += 1u) {
                sum[i] = fma(vec4(x_tile[k * ROW + row + 16u * i]), w_kn, sum[i]);
            }
        }
        workgroupBarrier();
    }

    for (var i = 0u; i < 4u; i += 1u) {
        for (var j = 0u; j < 4u; j += 1u) {
            let m = first_row + row + 16u * i;
            let n = first_column + column + 16u * j;
            // Columns of padding, where w has no row, hold the zeros kept above.
            if m < M && n < params.y_stride {
                let at = m * params.y_stride + n;
                var value = sum[i][j];
                if params.accumulate != 0u { value += y[at]; }
                y[at] = value;
            }
        }
    }
}
