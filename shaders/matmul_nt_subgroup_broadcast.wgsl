// y[m, n] (+)= sum_k x[m, k] * w[n, k]        (y = x w^T: a linear layer, forward)
// A workgroup is one subgroup and owns ROWS rows of y by 4 columns per lane; a lane owns its 4 columns in all of them.
// x goes through shuffles: each lane loads a part of the tile's rows once, and all lanes read it from there.
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

// Lanes of a subgroup, set by the executor.
override SUBGROUP: u32 = 8u;
// Rows of a tile, in one or two arrays. lavapipe, 512^3, GFLOP per CPU second: 32 rows 13.4, 16 rows 10.9, 8 rows 8.0; an array
// of 64 is not unrolled: 3.2. Two of 32 take 0.92 times as long as one (256 bits) or 0.8 times (512 bits; Zen 5, 1024^3).
const TM: u32 = 32u;
const ARRAYS: u32 = 2u;
const ROWS: u32 = TM * ARRAYS;

@compute @workgroup_size(SUBGROUP)
fn matmul_nt(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    if group >= params.groups { return; } // the fold's overshoot
    let M = params.M;
    let N = params.N;
    let K4 = params.K / 4u;
    // Tiles of one column are neighbours: they read the same w, and rows 4 KiB apart do not evict each other.
    let row_tiles = (M + ROWS - 1u) / ROWS;
    let row = group % row_tiles * ROWS;
    let column = (group / row_tiles * SUBGROUP + lane) * 4u;

    // Where this lane's share of the tile's rows begins in x, and its columns in w; beyond the edges the last one again.
    let shares = (ROWS + SUBGROUP - 1u) / SUBGROUP;
    var x_row: array<u32, ROWS / 4u>;
    for (var s = 0u; s < shares; s += 1u) {
        x_row[s] = min(row + s * SUBGROUP + lane, M - 1u) * K4;
    }
    let w_row = min(vec4(column) + vec4(0u, 1u, 2u, 3u), vec4(N - 1u)) * K4;

    var upper: array<vec4<f32>, TM>;
    var lower: array<vec4<f32>, TM>; // where there are two
    for (var k4 = 0u; k4 < K4; k4 += 1u) {
        var share: array<vec4<f32>, ROWS / 4u>;
        for (var s = 0u; s < shares; s += 1u) {
            share[s] = widen(x[x_row[s] + k4]);
        }
        let w_nk = mat4x4(widen(w[w_row.x + k4]), widen(w[w_row.y + k4]), widen(w[w_row.z + k4]), widen(w[w_row.w + k4]));
        let w_kn = transpose(w_nk);
        // Unrolled by the compiler, as an array is as long as its loop.
        for (var i = 0u; i < TM; i += 1u) {
            upper[i] += w_kn * subgroupShuffle(share[i / SUBGROUP], i % SUBGROUP);
        }
        if ARRAYS > 1u {
            for (var i = 0u; i < TM; i += 1u) {
                lower[i] += w_kn * subgroupShuffle(share[(TM + i) / SUBGROUP], (TM + i) % SUBGROUP);
            }
        }
    }

    if column >= params.y_stride { return; } // the last tile's overshoot
    for (var i = 0u; i < TM; i += 1u) {
        store(row + i, column, upper[i]);
    }
    if ARRAYS > 1u {
        for (var i = 0u; i < TM; i += 1u) {
            store(row + TM + i, column, lower[i]);
        }
    }
}

fn store(row: u32, column: u32, sum: vec4<f32>) {
    if row >= params.M { return; }
    let at = (row * params.y_stride + column) / 4u;
    // Columns of padding, where w has no row: zeros.
    var value = select(vec4(0.0), sum, vec4(column) + vec4(0u, 1u, 2u, 3u) < vec4(params.N));
    if params.accumulate != 0u { value += widen_result(y[at]); }
    y[at] = narrow_result(value);
}
