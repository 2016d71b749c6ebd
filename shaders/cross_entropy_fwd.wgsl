// loss[r] = lse[r] - logits[r, targets[r]],   lse[r] = log sum_v exp(logits[r, v])
// A workgroup owns one row, which it walks once; its lanes take every 256th column and rescale their sum when the
// maximum grows (Milakov & Gimelshein 2018, "Online normalizer calculation for softmax", algorithm 3).
#import grid, workgroup_max, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    V: u32,
    stride: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<f32>;      // (R, stride)
@group(0) @binding(1) var<storage, read> targets: array<u32>;     // (R)
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;  // (R)
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;   // (R)
@group(0) @binding(4) var<uniform> params: Params;

const LANES: u32 = 256u;
const LOWEST: f32 = -3.0e38;

@compute @workgroup_size(LANES)
fn cross_entropy_fwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(workgroup, grid, params.group_offset);
    if row >= params.R { return; } // the fold's overshoot
    let base = row * params.stride;
    var largest = LOWEST;
    var sum = 0.0;
    for (var v = lane; v < params.V; v += LANES) {
        let logit = logits[base + v];
        if logit > largest {
            sum *= exp(largest - logit);
            largest = logit;
        }
        sum += exp(logit - largest);
    }
    let row_largest = workgroup_max(largest, lane);
    let log_sum = log(workgroup_sum(sum * exp(largest - row_largest), lane));
    if lane == 0u {
        // The host has checked the targets; the clamp keeps a stray one inside the row on every driver.
        let target_column = min(targets[row], params.V - 1u);
        lse[row] = row_largest + log_sum;
        // Not from lse: where the target is the largest, its loss is log_sum alone.
        loss[row] = (row_largest - logits[base + target_column]) + log_sum;
    }
}
