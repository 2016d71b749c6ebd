// da_partial[s, g, i] = sum dy x^i / Q,   db_partial[s, g, j] = -sum dy F / Q sgn(A(t)) t^j db'/db: over rows of tile s, columns of group g
// A workgroup owns one tile of ceil(R / S) rows of one group; its lanes walk it by four rows of a column, 64 such fours at a
// time.
#import grid, rational, rational_sums, rational_total_workgroup, reduce

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    C: u32,
    G: u32,
    A: u32,
    sum_abs: u32,
    S: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;                // (R, C)
@group(0) @binding(1) var<storage, read> x: array<f32>;                 // (R, C)
@group(0) @binding(2) var<storage, read> a: array<vec2<f32>>;           // (A, 6)
@group(0) @binding(3) var<storage, read> b: array<vec4<f32>>;           // (G, 4)
@group(0) @binding(4) var<storage, read_write> da_partial: array<f32>;  // (S, G, 6)
@group(0) @binding(5) var<storage, read_write> db_partial: array<f32>;  // (S, G, 4)
@group(0) @binding(6) var<uniform> params: Params;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn rational_bwd_coefficients(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let part = group_index(workgroup, grid, params.group_offset); // tile and group
    if part >= params.S * params.G { return; } // the fold's overshoot
    let group = part % params.G;
    let rows = (params.R + params.S - 1u) / params.S;
    let begin = min(part / params.G * rows, params.R);
    let end = min(begin + rows, params.R);
    let width = params.C / params.G;
    let f = group_function(group);
    var sums = Sums();
    var row = begin + lane / width * 4u;
    var column = lane % width;
    while row < end {
        let four = row + vec4(0u, 1u, 2u, 3u);
        let i = min(four, vec4(end - 1u)) * params.C + group * width + column;
        // Rows beyond the tile bring nothing.
        let upstream = select(vec4<f32>(), vec4(dy[i.x], dy[i.y], dy[i.z], dy[i.w]), four < vec4(end));
        add_gradients(&sums, f, upstream, vec4(x[i.x], x[i.y], x[i.z], x[i.w]));
        // 64 on: a walk through the tile's rows without a division.
        row += LANES / width * 4u;
        column += LANES % width;
        if column >= width {
            row += 4u;
            column -= width;
        }
    }
    let sum = workgroup_gradient(sums, lane);
    if lane < 6u {
        da_partial[part * 6u + lane] = sum;
    } else if lane < 10u {
        let j = lane - 6u;
        db_partial[part * 4u + j] = select(sum, -sum, f.sum_abs && b[group][j] < 0.0);
    }
}
