// loss[r] = lse[r] - logits[r, targets[r]],   lse[r] = log sum_v exp(logits[r, v])
// A workgroup owns 16 rows; a lane owns one and walks it once, with the sum relative to the maximum so far. stride is a
// multiple of 4.
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

// The sums of exp(logit - maximum) of what a lane has seen, in four parts: every fourth column each.
struct Parts {
    maxima: vec4<f32>,
    sums: vec4<f32>,
}

// With the four columns of one quad; those of the padding, which may hold anything, as what no maximum and no sum notices.
fn with_quad(parts: Parts, logits: vec4<f32>, column: u32) -> Parts {
    let columns = vec4(column) + vec4(0u, 1u, 2u, 3u);
    let seen = select(vec4(LOWEST), logits, columns < vec4(params.V));
    let maxima = max(parts.maxima, seen);
    return Parts(maxima, parts.sums * exp(parts.maxima - maxima) + exp(seen - maxima));
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
    var parts = Parts(vec4(LOWEST), vec4<f32>());
    // Sixteen columns share one correction of the sums: exp costs twice what a load costs (lavapipe 22.3).
    var quad = 0u;
    for (; quad + 4u <= params.V / 4u; quad += 4u) {
        let at = base + quad;
        let v0 = logits[at];
        let v1 = logits[at + 1u];
        let v2 = logits[at + 2u];
        let v3 = logits[at + 3u];
        let maxima = max(parts.maxima, max(max(v0, v1), max(v2, v3)));
        let correction = exp(parts.maxima - maxima);
        let sums = (exp(v0 - maxima) + exp(v1 - maxima)) + (exp(v2 - maxima) + exp(v3 - maxima));
        parts = Parts(maxima, parts.sums * correction + sums);
    }
    for (; quad < quads; quad += 1u) {
        parts = with_quad(parts, logits[base + quad], 4u * quad);
    }
    let largest = max(max(parts.maxima.x, parts.maxima.y), max(parts.maxima.z, parts.maxima.w));
    let log_sum = log(sum4(parts.sums * exp(parts.maxima - largest)));
    // The host has checked the targets; the clamp keeps a stray one inside the row on every driver.
    let target_column = min(targets[row], params.V - 1u);
    lse[row] = largest + log_sum;
    // Not from lse: where the target is the largest, its loss is log_sum alone.
    loss[row] = (largest - logits[base + target_column / 4u][target_column % 4u]) + log_sum;
}
