// sum[r, c] = stream[r, c] + branch[r, c],   y[r, c] = sum[r, c] * w[c] * rstd[r],   rstd[r] = 1 / sqrt(mean_c(sum[r, c]^2) + eps)
// A workgroup owns one row, which it walks twice; its lanes take every 64th element.
#import grid, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    C: u32,
    eps: f32,
}

@group(0) @binding(0) var<storage, read> stream: array<f32>;      // (R, C)
@group(0) @binding(1) var<storage, read> branch: array<f32>;      // (R, C)
@group(0) @binding(2) var<storage, read> w: array<f32>;           // (C)
@group(0) @binding(3) var<storage, read_write> sum: array<f32>;   // (R, C)
@group(0) @binding(4) var<storage, read_write> y: array<f32>;     // (R, C)
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;  // (R), for the backward
@group(0) @binding(6) var<uniform> params: Params;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn residual_rms_norm_fwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(workgroup, grid, params.group_offset);
    if row >= params.R { return; } // the fold's overshoot
    let C = params.C;
    let base = row * C;
    var squares = 0.0;
    for (var c = lane; c < C; c += LANES) {
        let v = stream[base + c] + branch[base + c];
        sum[base + c] = v;
        squares = fma(v, v, squares);
    }
    let scale = inverseSqrt(workgroup_sum(squares, lane) / f32(C) + params.eps);
    if lane == 0u { rstd[row] = scale; }
    for (var c = lane; c < C; c += LANES) {
        y[base + c] = sum[base + c] * scale * w[c]; // what this lane wrote
    }
}
