// metrics = loss, norm, finite, applied, step number, loss scale, 0, 0
// One lane owns everything.
#import grid, state

struct Params {
    groups: u32,
    group_offset: u32,
}

@group(0) @binding(0) var<storage, read> loss: array<f32>;           // (1)
@group(0) @binding(1) var<storage, read> step: array<f32>;           // (2): learning rate, step number
@group(0) @binding(2) var<storage, read> state: array<f32>;          // (8)
@group(0) @binding(3) var<storage, read_write> metrics: array<f32>;  // (8)
@group(0) @binding(4) var<uniform> params: Params;

// As in step_metrics::slots.
const METRICS_LOSS: u32 = 0u;
const METRICS_NORM: u32 = 1u;
const METRICS_FINITE: u32 = 2u;
const METRICS_APPLIED: u32 = 3u;
const METRICS_STEP: u32 = 4u;
const METRICS_LOSS_SCALE: u32 = 5u;

@compute @workgroup_size(1)
fn step_metrics(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    if group_index(workgroup, grid, params.group_offset) > 0u { return; } // the fold's overshoot
    metrics[METRICS_LOSS] = loss[0];
    metrics[METRICS_NORM] = state[STATE_NORM];
    metrics[METRICS_FINITE] = state[STATE_FINITE];
    metrics[METRICS_APPLIED] = state[STATE_APPLIED];
    metrics[METRICS_LOSS_SCALE] = state[STATE_LOSS_SCALE];
    metrics[6] = 0.0;
    metrics[7] = 0.0;
    metrics[METRICS_STEP] = step[1]; // last: it says that the rest is there
}
