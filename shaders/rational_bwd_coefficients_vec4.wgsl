// da_partial[s, g, i] = sum dy x^i / Q,   db_partial[s, g, j] = -sum dy F / Q sgn(A(t)) t^j db'/db: over rows of tile s, columns of group g
// A workgroup owns one tile of ceil(R / S) rows of one group; its lanes walk it side by side, by fours of columns. Of the fours
// at its sides some columns may be the neighbours'. C is a multiple of 4.
#import grid, rational, rational_sums, rational_total_workgroup, reduce, stored

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

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;            // (R, C)
@group(0) @binding(1) var<storage, read> x: array<Stored4>;             // (R, C)
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
    let columns = params.C / 4u; // in fours
    let left = group * (params.C / params.G);
    let right = left + params.C / params.G;
    let width = (right + 3u) / 4u - left / 4u; // in fours
    let f = group_function(group);
    var sums = Sums();
    var row = begin + lane / width;
    var column = lane % width;
    while row < end {
        let four = left / 4u + column;
        let i = row * columns + four;
        let c = 4u * four + vec4(0u, 1u, 2u, 3u);
        // The neighbours' columns bring nothing.
        let upstream = select(vec4<f32>(), widen(dy[i]), c >= vec4(left) & c < vec4(right));
        add_gradients(&sums, f, upstream, widen(x[i]));
        // LANES on: a walk through the tile's rows without a division.
        row += LANES / width;
        column += LANES % width;
        if column >= width {
            row += 1u;
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
