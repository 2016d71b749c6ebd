// y[m, n] (+)= sum_k x[m, k] * w[n, k]        (y = x w^T: a linear layer, forward)
// A workgroup owns BM by BN outputs; steps of BK in k go through workgroup memory (matmul_load). What a lane owns, and how they
// are multiplied, is matmul_tile's, or matmul_cooperative's in its place. Rows are whole vec4s.
#import grid, matmul_load, matmul_tile, result, stored

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

// Columns: steps k to k + 3 of rows m to m + 3. Beyond an edge the last ones again.
fn x_block(m: u32, k: u32) -> mat4x4<f32> {
    let at = min(vec4(m) + NEXT, vec4(params.M - 1u)) * (params.K / 4u) + min(k, params.K - 4u) / 4u;
    return transpose(mat4x4(widen(x[at.x]), widen(x[at.y]), widen(x[at.z]), widen(x[at.w])));
}

// Columns: steps k to k + 3 of columns n to n + 3. Beyond an edge the last ones again.
fn w_block(n: u32, k: u32) -> mat4x4<f32> {
    let at = min(vec4(n) + NEXT, vec4(params.N - 1u)) * (params.K / 4u) + min(k, params.K - 4u) / 4u;
    return transpose(mat4x4(widen(w[at.x]), widen(w[at.y]), widen(w[at.z]), widen(w[at.w])));
}

fn put_row(m: u32, n: u32, sum: vec4<f32>) {
    if m >= params.M || n >= params.y_stride { return; }
    let at = m * (params.y_stride / 4u) + n / 4u;
    // Columns of padding, where w has no row: zeros.
    var value = select(vec4(0.0), sum, vec4(n) + NEXT < vec4(params.N));
    if params.accumulate != 0u { value += widen_result(y[at]); }
    y[at] = narrow_result(value);
}

@compute @workgroup_size(LANES)
fn matmul_nt(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    if group >= params.groups { return; } // the fold's overshoot
    multiply(lane, first_output(group, (params.M + BM - 1u) / BM, (params.y_stride + BN - 1u) / BN));
}
