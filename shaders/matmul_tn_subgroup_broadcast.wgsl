// y[m, n] (+)= sum_k x[k, m] * w[k, n]        (y = x^T w: dw = dy^T x of a linear layer)
// A workgroup is one subgroup and owns ROWS rows of y by 4 columns per lane; a lane owns its 4 columns in all of them.
// x goes through shuffles: each lane loads a part of the tile's rows once, and all lanes read it from there.
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

// Lanes of a subgroup, set by the executor.
override SUBGROUP: u32 = 8u;
// Rows of a tile, in one or two arrays. lavapipe, 512^3, GFLOP per CPU second: 32 rows 13.4, 16 rows 10.9, 8 rows 8.0; an array
// of 64 is not unrolled: 3.2. Two of 32 take 0.92 times as long as one (256 bits) or 0.8 times (512 bits; Zen 5, 1024^3).
const TM: u32 = 32u;
const ARRAYS: u32 = 2u;
const ROWS: u32 = TM * ARRAYS;

// The four x of a step for row i of the tile, from the lanes that have them.
fn x_of_row(share: ptr<function, array<vec4<f32>, ROWS / 4u>>, i: u32) -> vec4<f32> {
    var x: vec4<f32>;
    for (var q = 0u; q < 4u; q += 1u) {
        let part = q * (ROWS / 4u) + i / 4u;
        x[q] = subgroupShuffle((*share)[part / SUBGROUP][i % 4u], part % SUBGROUP);
    }
    return x;
}

@compute @workgroup_size(SUBGROUP)
fn matmul_tn(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    if group >= params.groups { return; } // the fold's overshoot
    let M = params.M;
    let N = params.N;
    let N4 = N / 4u;
    let K = params.K;
    let x_stride4 = params.x_stride / 4u;
    // Tiles of one column are neighbours: they read the same w, and rows 4 KiB apart do not evict each other.
    let row_tiles = (M + ROWS - 1u) / ROWS;
    let row = group % row_tiles * ROWS;
    let column = (group / row_tiles * SUBGROUP + lane) * 4u;

    // A step in k takes ROWS vec4s of x: 4 rows of ROWS columns. This lane's share of them: which row, and where in it;
    // beyond the last column that one again, and so with the columns of w.
    let shares = (ROWS + SUBGROUP - 1u) / SUBGROUP;
    var x_k: array<u32, ROWS / 4u>;
    var x_column: array<u32, ROWS / 4u>;
    for (var s = 0u; s < shares; s += 1u) {
        let part = s * SUBGROUP + lane;
        x_k[s] = part / (ROWS / 4u);
        x_column[s] = min(row / 4u + part % (ROWS / 4u), x_stride4 - 1u);
    }
    let w_column = min(column / 4u, N4 - 1u);

    var upper: array<vec4<f32>, TM>;
    var lower: array<vec4<f32>, TM>; // where there are two
    for (var k = 0u; k < K; k += 4u) {
        // The last step may reach beyond K: the last row again, and zeros from x.
        var share: array<vec4<f32>, ROWS / 4u>;
        for (var s = 0u; s < shares; s += 1u) {
            let at = min(k + x_k[s], K - 1u) * x_stride4 + x_column[s];
            share[s] = select(vec4(0.0), widen(x[at]), k + x_k[s] < K);
        }
        let w_row = min(vec4(k) + vec4(0u, 1u, 2u, 3u), vec4(K - 1u)) * N4 + w_column;
        let w_kn = mat4x4(widen(w[w_row.x]), widen(w[w_row.y]), widen(w[w_row.z]), widen(w[w_row.w]));
        // Unrolled by the compiler, as an array is as long as its loop.
        for (var i = 0u; i < TM; i += 1u) {
            upper[i] += w_kn * x_of_row(&share, i);
        }
        if ARRAYS > 1u {
            for (var i = 0u; i < TM; i += 1u) {
                lower[i] += w_kn * x_of_row(&share, TM + i);
            }
        }
    }

    if column >= N { return; } // the last tile's overshoot
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
    let at = (row * params.N + column) / 4u;
    var value = sum;
    if params.accumulate != 0u { value += y[at]; }
    y[at] = value;
}
