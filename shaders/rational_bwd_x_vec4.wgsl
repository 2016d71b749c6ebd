// dx (+)= dy (P'(x) - S F(x)) / Q(x),   F = P / Q,   S = sgn(A(t)) A'(t) dt/dx: the derivative of Q = 1 + |A(t)|
// A workgroup owns 64 fours of columns, of ROWS rows each, a lane one of them. C is a multiple of 4; so is C / G, or, with
// ACROSS_GROUPS, at least 4.
#import grid, rational, stored

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    C: u32,
    G: u32,
    A: u32,
    sum_abs: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;          // (R, C)
@group(0) @binding(1) var<storage, read> x: array<Stored4>;           // (R, C)
@group(0) @binding(2) var<storage, read> a: array<vec2<f32>>;         // (A, 6)
@group(0) @binding(3) var<storage, read> b: array<vec4<f32>>;         // (G, 4)
@group(0) @binding(4) var<storage, read_write> dx: array<Stored4>;    // (R, C)
@group(0) @binding(5) var<uniform> params: Params;

const ROWS: u32 = 8u;

@compute @workgroup_size(64)
fn rational_bwd_x(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let columns = params.C / 4u; // in fours
    let strip = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let begin = strip / columns * ROWS;
    if begin >= params.R { return; } // the last group's tail, and the fold's overshoot
    let column = strip % columns;
    let f = column_functions(4u * column);
    for (var row = begin; row < min(begin + ROWS, params.R); row += 1u) {
        let i = row * columns + column;
        var value = widen(dy[i]) * slope(f, widen(x[i]));
        if params.accumulate != 0u { value += widen(dx[i]); }
        dx[i] = narrow(value);
    }
}
