// w -= lr m, where m = beta1 m + s g / sqrt(v + eps) + weight_decay w                        (Ginsburg et al. 2019)
// A workgroup owns one chunk of a segment; a lane takes every LANES-th group of four elements. N and offsets are
// multiples of 4.
// Before that v = beta2 v + (1 - beta2) |s g|^2 of the segment, at the first step |s g|^2; s and lr stand in the state.
#import grid, segment, state

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
    SEG: u32,
    S: u32,
    beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<storage, read_write> w: array<vec4<f32>>;  // (N)
@group(0) @binding(1) var<storage, read_write> m: array<vec4<f32>>;  // (N)
@group(0) @binding(2) var<storage, read> g: array<vec4<f32>>;        // (N)
@group(0) @binding(3) var<storage, read> table: array<vec2<u32>>;    // (SEG, 2): offset, length
@group(0) @binding(4) var<storage, read> stats: array<vec4<f32>>;    // (SEG, 4) of g, as of segment_statistics
@group(0) @binding(5) var<storage, read> v: array<f32>;              // (SEG)
@group(0) @binding(6) var<storage, read> state: array<f32>;          // (8)
@group(0) @binding(7) var<storage, read_write> next: array<f32>;     // (SEG): v after the step
@group(0) @binding(8) var<uniform> params: Params;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn novograd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    if group >= params.SEG * params.S { return; } // the fold's overshoot
    let segment = group / params.S;
    let applied = state[STATE_FINITE] != 0.0;
    let scale = state[STATE_SCALE];
    var second = v[segment];
    if applied {
        let n = f32(table[segment].y);
        let deviation = scale * stats[segment][STATISTICS_STD];
        let mean = scale * stats[segment][STATISTICS_MEAN];
        let squares = (n - 1.0) * deviation * deviation + n * mean * mean;
        second = select(params.beta2 * second + params.one_minus_beta2 * squares, squares, state[STATE_APPLIED] == 1.0);
    }
    if lane == 0u && group % params.S == 0u { next[segment] = second; }
    if !applied { return; } // a skipped step changes nothing
    let rate = scale / sqrt(second + params.eps);
    let lr = state[STATE_LR];
    let chunk = segment_chunk(table[segment], group % params.S, params.S, params.N);
    let whole = chunk.y / 4u;
    for (var i = chunk.x / 4u + lane; i < whole; i += LANES) {
        let first = params.beta1 * m[i] + rate * g[i] + params.weight_decay * w[i];
        m[i] = first;
        w[i] -= lr * first;
    }
    // The segment's tail, by one lane: a store to a component may write the whole vector. What follows keeps its bits.
    if lane == 0u && chunk.y % 4u != 0u {
        let own = vec4(0u, 1u, 2u, 3u) < vec4(chunk.y % 4u);
        let first = params.beta1 * m[whole] + rate * g[whole] + params.weight_decay * w[whole];
        m[whole] = select(m[whole], first, own);
        w[whole] = select(w[whole], w[whole] - lr * first, own);
    }
}
