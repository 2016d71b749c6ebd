// dw_partial[s, c] = sum over rows r of tile s of dy[r, c] x[r, c] rstd[r],   rstd[r] = 1 / sqrt(mean_c(x[r, c]^2) + eps)
// A workgroup owns one tile of ceil(R / S) rows: first a lane finds one row's rstd, then it sums every
// 64th group of four columns. C is a multiple of 4.
#import grid, reduce, stored

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    C: u32,
    S: u32,
    eps: f32,
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;                  // (R, C)
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;                 // (R, C)
@group(0) @binding(2) var<storage, read_write> dw_partial: array<vec4<f32>>;  // (S, C)
@group(0) @binding(3) var<uniform> params: Params;

const LANES: u32 = 64u;

var<workgroup> rstd: array<f32, LANES>;

fn row_rstd(row: u32, columns: u32) -> f32 {
    var squares = vec4<f32>();
    for (var c = 0u; c < columns; c += 1u) {
        let v = x[row * columns + c];
        squares = fma(v, v, squares);
    }
    return inverseSqrt(sum4(squares) / f32(params.C) + params.eps);
}

@compute @workgroup_size(LANES)
fn rms_norm_bwd_w(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = group_index(workgroup, grid, params.group_offset);
    if tile >= params.S { return; } // the fold's overshoot
    let columns = params.C / 4u; // in fours
    let rows = (params.R + params.S - 1u) / params.S;
    let begin = min(tile * rows, params.R);
    let end = min(begin + rows, params.R);
    // At least once: a tile without rows still writes its zeros.
    var block = begin;
    loop {
        let stop = min(block + LANES, end);
        if block + lane < stop { rstd[lane] = row_rstd(block + lane, columns); }
        workgroupBarrier();
        for (var c = lane; c < columns; c += LANES) {
            var sum = vec4<f32>();
            if block > begin { sum = dw_partial[tile * columns + c]; } // this lane's, from the block before
            for (var row = block; row < stop; row += 1u) {
                let i = row * columns + c;
                sum = fma(widen(dy[i]) * rstd[row - block], x[i], sum);
            }
            dw_partial[tile * columns + c] = sum;
        }
        workgroupBarrier(); // rstd is about to be overwritten
        block += LANES;
        if block >= end { break; }
    }
}
