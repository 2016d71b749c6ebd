// y[m, n] (+)= sum_k x[m, k] * w[k, n]        (y = x w: dx = dy w of a linear layer)
// A workgroup owns 64 neighbouring outputs; a lane owns one.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    M: u32,
    N: u32,
    K: u32,
    x_stride: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;        // (M, x_stride), columns from K on are padding
@group(0) @binding(1) var<storage, read> w: array<f32>;        // (K, N)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (M, N)
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn matmul_nn(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let output = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let m = output / params.N;
    let n = output % params.N;
    if m >= params.M { return; } // the last group's tail, and the fold's overshoot
    var sum = 0.0;
    for (var k = 0u; k < params.K; k += 1u) {
        sum = fma(x[m * params.x_stride + k], w[k * params.N + n], sum);
    }
    if params.accumulate != 0u { sum += y[output]; }
    y[output] = sum;
}
