// dx[r, c] = rstd[r] * (w[c] dy[r, c] - x[r, c] rstd[r]^2 mean_c(w[c] dy[r, c] x[r, c])), rstd = 1 / sqrt(mean_c(x^2) + eps)
// A workgroup owns one row, which it walks twice; its lanes take every 64th group of four. C is a multiple of 4.
#import grid, reduce, stored, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    C: u32,
    eps: f32,
    accumulate: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;          // (R, C)
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // (R, C)
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;         // (C)
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>;  // (R, C)
@group(0) @binding(4) var<uniform> params: Params;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn rms_norm_bwd_x(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(workgroup, grid, params.group_offset);
    if row >= params.R { return; } // the fold's overshoot
    let quads = params.C / 4u;
    let base = row * quads;
    var squares = vec4<f32>();
    var products = vec4<f32>();
    for (var c = lane; c < quads; c += LANES) {
        let v = x[base + c];
        squares = fma(v, v, squares);
        products = fma(w[c] * widen(dy[base + c]), v, products);
    }
    let rstd = inverseSqrt(workgroup_sum(sum4(squares), lane) / f32(params.C) + params.eps);
    let slope = rstd * rstd * workgroup_sum(sum4(products), lane) / f32(params.C);
    for (var c = lane; c < quads; c += LANES) {
        let i = base + c;
        var value = rstd * (w[c] * widen(dy[i]) - x[i] * slope);
        if params.accumulate != 0u { value += dx[i]; }
        dx[i] = value;
    }
}
