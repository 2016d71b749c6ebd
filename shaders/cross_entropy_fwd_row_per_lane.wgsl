// loss[r] = lse[r] - logits[r, targets[r]],   lse[r] = log sum_v exp(logits[r, v])
// A workgroup owns 16 rows; a lane owns one and walks it twice: maximum, then sum. stride is a multiple of 4.
#import grid, reduce

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    V: u32,
    stride: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<vec4<f32>>;  // (R, stride)
@group(0) @binding(1) var<storage, read> targets: array<u32>;       // (R)
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;    // (R)
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;     // (R)
@group(0) @binding(4) var<uniform> params: Params;

const LANES: u32 = 16u; // few: a chunk of logits may be no more than 64 rows, to be shared by all cores
const LOWEST: f32 = -3.0e38;

// Four columns; those of the padding, which may hold anything, as what no maximum and no sum notices.
fn columns(base: u32, quad: u32) -> vec4<f32> {
    let column = vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<f32>(LOWEST), logits[base + quad], column < vec4<u32>(params.V));
}

@compute @workgroup_size(LANES)
fn cross_entropy_fwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(workgroup, grid, params.group_offset) * LANES + lane;
    if row >= params.R { return; } // the last group's tail, and the fold's overshoot
    let quads = (params.V + 3u) / 4u;
    let base = row * (params.stride / 4u);
    var maxima = vec4<f32>(LOWEST);
    for (var quad = 0u; quad < quads; quad += 1u) {
        maxima = max(maxima, columns(base, quad));
    }
    let largest = max(max(maxima.x, maxima.y), max(maxima.z, maxima.w));
    var sums = vec4<f32>();
    for (var quad = 0u; quad < quads; quad += 1u) {
        sums += exp(columns(base, quad) - largest);
    }
    let log_sum = log(sum4(sums));
    // The host has checked the targets; the clamp keeps a stray one inside the row on every driver.
    let target_column = min(targets[row], params.V - 1u);
    lse[row] = largest + log_sum;
    // Not from lse: where the target is the largest, its loss is log_sum alone.
    loss[row] = (largest - logits[base + target_column / 4u][target_column % 4u]) + log_sum;
}
