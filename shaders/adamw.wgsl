// w = (1 - lr weight_decay) w - lr (m / c1) / (sqrt(v / c2) + eps)       (Loshchilov & Hutter 2019, algorithm 2)
// A workgroup owns 256 elements, a lane every 64th of them.
// Before that m += (1 - beta1) (s g - m), v = beta2 v + (1 - beta2) (s g)^2; s, c1, c2 and lr stand in the state.
#import grid, state

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
    beta2: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    eps: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<storage, read_write> w: array<f32>;  // (N)
@group(0) @binding(1) var<storage, read_write> m: array<f32>;  // (N)
@group(0) @binding(2) var<storage, read_write> v: array<f32>;  // (N)
@group(0) @binding(3) var<storage, read> g: array<f32>;        // (N)
@group(0) @binding(4) var<storage, read> state: array<f32>;    // (8)
@group(0) @binding(5) var<uniform> params: Params;

const LANES: u32 = 64u;
const PER_GROUP: u32 = 256u; // so many that the state is loaded seldom

@compute @workgroup_size(LANES)
fn adamw(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if state[STATE_FINITE] == 0.0 { return; } // a skipped step changes nothing
    let scale = state[STATE_SCALE];
    let lr = state[STATE_LR];
    let kept = 1.0 - lr * params.weight_decay;
    let rate = lr / state[STATE_CORRECTION1];
    let root = 1.0 / sqrt(state[STATE_CORRECTION2]);
    let begin = group_index(workgroup, grid, params.group_offset) * PER_GROUP;
    let end = min(begin + PER_GROUP, params.N); // the last group's tail; the fold's overshoot has nothing
    for (var i = begin + lane; i < end; i += LANES) {
        let gradient = g[i] * scale;
        let first = m[i] + params.one_minus_beta1 * (gradient - m[i]);
        let second = params.beta2 * v[i] + params.one_minus_beta2 * gradient * gradient;
        m[i] = first;
        v[i] = second;
        w[i] = kept * w[i] - rate * first / (sqrt(second) * root + params.eps);
    }
}
