// y[m, n] (+)= sum_k x[k, m] * w[k, n]        (y = x^T w: dw = dy^T x of a linear layer)
// A workgroup owns BM by BN outputs; steps of BK in k go through workgroup memory (matmul_load). What a lane owns, and how they
// are multiplied, is matmul_tile's, or matmul_cooperative's in its place. Rows are whole vec4s.
#import grid, matmul_load, matmul_tile, stored

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

// Columns: steps k to k + 3 of rows m to m + 3. Beyond an edge the last ones again.
fn x_block(m: u32, k: u32) -> mat4x4<f32> {
    let at = min(vec4(k) + NEXT, vec4(params.K - 1u)) * (params.x_stride / 4u) + min(m, params.x_stride - 4u) / 4u;
    return mat4x4(widen(x[at.x]), widen(x[at.y]), widen(x[at.z]), widen(x[at.w]));
}

// Columns: steps k to k + 3 of columns n to n + 3. Beyond an edge the last ones again.
fn w_block(n: u32, k: u32) -> mat4x4<f32> {
    let at = min(vec4(k) + NEXT, vec4(params.K - 1u)) * (params.N / 4u) + min(n, params.N - 4u) / 4u;
    return mat4x4(widen(w[at.x]), widen(w[at.y]), widen(w[at.z]), widen(w[at.w]));
}

fn put_row(m: u32, n: u32, sum: vec4<f32>) {
    if m >= params.M || n >= params.N { return; }
    let at = m * (params.N / 4u) + n / 4u;
    var value = sum;
    if params.accumulate != 0u { value += y[at]; }
    y[at] = value;
}

@compute @workgroup_size(LANES)
fn matmul_tn(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    if group >= params.groups { return; } // the fold's overshoot
    multiply(lane, first_output(group, (params.M + BM - 1u) / BM, (params.N + BN - 1u) / BN));
}
