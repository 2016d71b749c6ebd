// x = (x - mean) target / std + mean on segments with std / target > threshold, others keep their bits; rescaled = 1 or 0
// A workgroup owns one chunk of a segment; a lane takes every LANES-th group of four elements. N and offsets are
// multiples of 4.
#import grid, segment

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
    SEG: u32,
    S: u32,
    threshold: f32,
}

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;   // (N)
@group(0) @binding(1) var<storage, read> table: array<vec2<u32>>;     // (SEG, 2): offset, length
@group(0) @binding(2) var<storage, read> stats: array<vec4<f32>>;     // (SEG, 4), as of segment_statistics
@group(0) @binding(3) var<storage, read> targets: array<f32>;         // (SEG)
@group(0) @binding(4) var<storage, read_write> rescaled: array<f32>;  // (SEG)
@group(0) @binding(5) var<uniform> params: Params;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn segment_rescale(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    if group >= params.SEG * params.S { return; } // the fold's overshoot
    let segment = group / params.S;
    let mean = stats[segment][STATISTICS_MEAN];
    let deviation = stats[segment][STATISTICS_STD];
    let exceeds = segment_exceeds(mean, deviation, targets[segment], params.threshold);
    if lane == 0u && group % params.S == 0u { rescaled[segment] = select(0.0, 1.0, exceeds); }
    if !exceeds { return; }
    let ratio = targets[segment] / deviation;
    let chunk = segment_chunk(table[segment], group % params.S, params.S, params.N);
    let whole = chunk.y / 4u;
    for (var i = chunk.x / 4u + lane; i < whole; i += LANES) {
        x[i] = fma(x[i] - mean, vec4(ratio), vec4(mean));
    }
    // The segment's tail, by one lane: a store to a component may write the whole vector. What follows keeps its bits.
    if lane == 0u && chunk.y % 4u != 0u {
        let own = vec4(0u, 1u, 2u, 3u) < vec4(chunk.y % 4u);
        x[whole] = select(x[whole], fma(x[whole] - mean, vec4(ratio), vec4(mean)), own);
    }
}
