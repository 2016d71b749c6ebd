// dx[r, c] = rstd[r] * (w[c] dy[r, c] - x[r, c] rstd[r]^2 mean_c(w[c] dy[r, c] x[r, c])),   rstd = 1 / rms(x), the forward's
// A workgroup owns one row, which it walks twice; its lanes take every 64th element.
#import grid, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    C: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;        // (R, C)
@group(0) @binding(1) var<storage, read> x: array<f32>;         // (R, C)
@group(0) @binding(2) var<storage, read> w: array<f32>;         // (C)
@group(0) @binding(3) var<storage, read> rstd: array<f32>;      // (R)
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;  // (R, C)
@group(0) @binding(5) var<uniform> params: Params;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn rms_norm_bwd_x(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(workgroup, grid, params.group_offset);
    if row >= params.R { return; } // the fold's overshoot
    let C = params.C;
    let base = row * C;
    var products = 0.0;
    for (var c = lane; c < C; c += LANES) {
        products = fma(w[c] * dy[base + c], x[base + c], products);
    }
    let scale = rstd[row];
    let slope = scale * scale * workgroup_sum(products, lane) / f32(C);
    for (var c = lane; c < C; c += LANES) {
        let i = base + c;
        var value = scale * (w[c] * dy[i] - x[i] * slope);
        if params.accumulate != 0u { value += dx[i]; }
        dx[i] = value;
    }
}
