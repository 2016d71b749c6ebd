// stats[segment] = mean, std = sqrt(sum d^2 / (n - 1)), max |x|, kurtosis = n sum d^4 / (sum d^2)^2 of its n elements
// A workgroup owns one segment; a lane takes every LANES-th chunk.
#import grid, segment, workgroup_max, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    SEG: u32,
    S: u32,
}

@group(0) @binding(0) var<storage, read> table: array<vec2<u32>>;        // (SEG, 2): offset, length
@group(0) @binding(1) var<storage, read> partial: array<f32>;            // (SEG, S): sums of the chunks
@group(0) @binding(2) var<storage, read> moments: array<f32>;            // (SEG, S, 3): sum d^2, sum d^4, max |x|
@group(0) @binding(3) var<storage, read_write> stats: array<vec4<f32>>;  // (SEG, 4)
@group(0) @binding(4) var<uniform> params: Params;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn segment_statistics(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let segment = group_index(workgroup, grid, params.group_offset);
    if segment >= params.SEG { return; } // the fold's overshoot
    var sum = 0.0;
    var squares = 0.0;
    var fourths = 0.0;
    var largest = 0.0;
    for (var s = lane; s < params.S; s += LANES) {
        let chunk = segment * params.S + s;
        sum += partial[chunk];
        squares += moments[3u * chunk];
        fourths += moments[3u * chunk + 1u];
        largest = max(largest, moments[3u * chunk + 2u]);
    }
    sum = workgroup_sum(sum, lane);
    squares = workgroup_sum(squares, lane);
    fourths = workgroup_sum(fourths, lane);
    largest = workgroup_max(largest, lane);
    if lane > 0u { return; }
    let n = f32(table[segment].y);
    stats[segment][STATISTICS_MEAN] = sum / n;
    stats[segment][STATISTICS_STD] = sqrt(squares / max(n - 1.0, 1.0)); // of a single element: 0
    stats[segment][STATISTICS_ABSMAX] = largest;
    // Divided in this order, sums of squares are not squared: 1e-20 would be lost.
    var kurtosis = 0.0;
    if squares > 0.0 { kurtosis = (fourths / squares) / (squares / n); }
    stats[segment][STATISTICS_KURTOSIS] = kurtosis;
}
