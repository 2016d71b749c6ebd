// dx (+)= dy (P'(x) - S F(x)) / Q(x),   F = P / Q,   S = sgn(A(t)) A'(t) dt/dx: the derivative of Q = 1 + |A(t)|
// A workgroup owns 64 columns, of ROWS rows each; a lane takes four rows of one column at a time.
#import grid, rational

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

@group(0) @binding(0) var<storage, read> dy: array<f32>;        // (R, C)
@group(0) @binding(1) var<storage, read> x: array<f32>;         // (R, C)
@group(0) @binding(2) var<storage, read> a: array<vec2<f32>>;   // (A, 6)
@group(0) @binding(3) var<storage, read> b: array<vec4<f32>>;   // (G, 4)
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;  // (R, C)
@group(0) @binding(5) var<uniform> params: Params;

const ROWS: u32 = 8u;

@compute @workgroup_size(64)
fn rational_bwd_x(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let strip = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let begin = strip / params.C * ROWS;
    if begin >= params.R { return; } // the last group's tail, and the fold's overshoot
    let column = strip % params.C;
    let f = group_function(column / (params.C / params.G));
    for (var row = begin; row < min(begin + ROWS, params.R); row += 4u) {
        // Beyond the last row that one again: what is added to is read before any of the four is written.
        let i = min(row + vec4(0u, 1u, 2u, 3u), vec4(params.R - 1u)) * params.C + column;
        var value = vec4(dy[i.x], dy[i.y], dy[i.z], dy[i.w]) * slope(f, vec4(x[i.x], x[i.y], x[i.z], x[i.w]));
        if params.accumulate != 0u { value += vec4(dx[i.x], dx[i.y], dx[i.z], dx[i.w]); }
        dx[i.x] = value.x;
        dx[i.y] = value.y;
        dx[i.z] = value.z;
        dx[i.w] = value.w;
    }
}
