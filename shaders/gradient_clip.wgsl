// norm = sqrt(sum_s partial[s]) / loss_scale;  scale = min(1, max_norm / (norm + 1e-6)) / loss_scale, without max_norm
// 1 / loss_scale, 0 where norm is not finite; then the loss scale halves, and after growth_interval good steps it doubles.
// One workgroup owns everything: a lane sums every 256th partial, a tree sums the lanes, the first lane decides.
#import grid, state, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    S: u32,
    growth_interval: u32,
    max_norm: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
}

@group(0) @binding(0) var<storage, read> partial: array<f32>;           // (S)
@group(0) @binding(1) var<storage, read> step: array<f32>;              // (2): learning rate, step number
@group(0) @binding(2) var<storage, read_write> loss_scale: array<f32>;  // (2): scale, good steps in a row
@group(0) @binding(3) var<storage, read_write> state: array<f32>;       // (8)
@group(0) @binding(4) var<uniform> params: Params;

const LANES: u32 = 256u;
const EXPONENT: u32 = 0x7f800000u;

@compute @workgroup_size(LANES)
fn gradient_clip(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if group_index(workgroup, grid, params.group_offset) > 0u { return; } // the fold's overshoot
    var part = 0.0;
    for (var s = lane; s < params.S; s += LANES) {
        part += partial[s];
    }
    let total = workgroup_sum(part, lane);
    if lane > 0u { return; }
    let scaled = loss_scale[0];
    let norm = sqrt(total) / scaled;
    state[STATE_LOSS_SCALE] = scaled;
    state[STATE_LR] = step[0];
    state[STATE_NORM] = norm;
    // By the bits: drivers may take comparisons with NaN and infinity for what they like.
    if (bitcast<u32>(norm) & EXPONENT) == EXPONENT {
        state[STATE_FINITE] = 0.0;
        state[STATE_SCALE] = 0.0;
        if params.growth_interval > 0u {
            loss_scale[0] = 0.5 * scaled;
            loss_scale[1] = 0.0;
        }
        return;
    }
    state[STATE_FINITE] = 1.0;
    state[STATE_APPLIED] += 1.0;
    // 1 - beta^applied without the cancellation of that formula in f32.
    state[STATE_CORRECTION1] += params.one_minus_beta1 * (1.0 - state[STATE_CORRECTION1]);
    state[STATE_CORRECTION2] += params.one_minus_beta2 * (1.0 - state[STATE_CORRECTION2]);
    var scale = 1.0;
    if params.max_norm > 0.0 { scale = min(1.0, params.max_norm / (norm + 1e-6)); }
    state[STATE_SCALE] = scale / scaled;
    if params.growth_interval > 0u {
        let good = loss_scale[1] + 1.0;
        let grows = good == f32(params.growth_interval);
        if grows { loss_scale[0] = 2.0 * scaled; }
        loss_scale[1] = select(good, 0.0, grows);
    }
}
