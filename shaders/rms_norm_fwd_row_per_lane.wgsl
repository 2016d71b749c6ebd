// y[r, c] = x[r, c] * w[c] * rstd[r],   rstd[r] = 1 / sqrt(mean_c(x[r, c]^2) + eps)        (RMSNorm, Zhang & Sennrich 2019, eq. 4)
// A workgroup owns 64 rows; a lane owns one row and walks it twice. C is a multiple of 4.
#import grid, reduce, stored

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    C: u32,
    eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;      // (R, C)
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;      // (C)
@group(0) @binding(2) var<storage, read_write> y: array<Stored4>;  // (R, C)
@group(0) @binding(3) var<storage, read_write> rstd: array<f32>;   // (R), for the backward
@group(0) @binding(4) var<uniform> params: Params;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn rms_norm_fwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(workgroup, grid, params.group_offset) * LANES + lane;
    if row >= params.R { return; } // the last group's tail, and the fold's overshoot
    let quads = params.C / 4u;
    let base = row * quads;
    var squares = vec4<f32>();
    for (var c = 0u; c < quads; c += 1u) {
        let v = x[base + c];
        squares = fma(v, v, squares);
    }
    let scale = inverseSqrt(sum4(squares) / f32(params.C) + params.eps);
    rstd[row] = scale;
    for (var c = 0u; c < quads; c += 1u) {
        y[base + c] = narrow(x[base + c] * scale * w[c]);
    }
}
