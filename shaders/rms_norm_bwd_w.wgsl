// dw_partial[s, c] = sum over rows r of tile s of dy[r, c] x[r, c] rstd[r],   rstd = 1 / rms(x), the forward's
// A workgroup owns 64 columns, each of one tile of ceil(R / S) rows; a lane sums one of them.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    C: u32,
    S: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;                // (R, C)
@group(0) @binding(1) var<storage, read> x: array<f32>;                 // (R, C)
@group(0) @binding(2) var<storage, read> rstd: array<f32>;              // (R)
@group(0) @binding(3) var<storage, read_write> dw_partial: array<f32>;  // (S, C)
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(64)
fn rms_norm_bwd_w(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let tile = i / params.C;
    if tile >= params.S { return; } // the last group's tail, and the fold's overshoot
    let rows = (params.R + params.S - 1u) / params.S;
    let end = min((tile + 1u) * rows, params.R);
    var sum = f32(); // a tile without rows writes its zero
    for (var row = tile * rows; row < end; row += 1u) {
        let at = row * params.C + i % params.C;
        sum = fma(dy[at] * rstd[row], x[at], sum);
    }
    dw_partial[i] = sum;
}
