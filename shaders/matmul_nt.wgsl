// y[m, n] (+)= sum_k x[m, k] * w[n, k]        (y = x w^T: a linear layer, forward)
// A workgroup owns 64 neighbouring outputs; a lane owns one.
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

@compute @workgroup_size(64)
fn matmul_nt(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let output = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let m = output / params.y_stride;
    let n = output % params.y_stride;
    if m >= params.M { return; } // the last group's tail, and the fold's overshoot
    var sum = 0.0;
    if n < params.N { // not padding
        for (var k = 0u; k < params.K; k += 1u) {
            sum = fma(x[m * params.K + k], w[n * params.K + k], sum);
        }
    }
    if params.accumulate != 0u { sum += y[output]; }
    y[output] = sum;
}
