// dx[r, c] = rstd[r] * (w[c] dy[r, c] - x[r, c] rstd[r]^2 mean_c(w[c] dy[r, c] x[r, c])),   rstd = 1 / rms(x), the forward's
// A workgroup owns 64 rows; a lane owns one row and walks it twice. C is a multiple of 4.
#import grid, reduce, stored

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    C: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;          // (R, C)
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // (R, C)
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;         // (C)
@group(0) @binding(3) var<storage, read> rstd: array<f32>;            // (R)
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;  // (R, C)
@group(0) @binding(5) var<uniform> params: Params;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn rms_norm_bwd_x(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(workgroup, grid, params.group_offset) * LANES + lane;
    if row >= params.R { return; } // the last group's tail, and the fold's overshoot
    let quads = params.C / 4u;
    let base = row * quads;
    var products = vec4<f32>();
    for (var c = 0u; c < quads; c += 1u) {
        products = fma(w[c] * widen(dy[base + c]), x[base + c], products);
    }
    let scale = rstd[row];
    let slope = scale * scale * sum4(products) / f32(params.C);
    for (var c = 0u; c < quads; c += 1u) {
        let i = base + c;
        var value = scale * (w[c] * widen(dy[i]) - x[i] * slope);
        if params.accumulate != 0u { value += dx[i]; }
        dx[i] = value;
    }
}
