// y[r,h] = sum_s p_s v_cache[b,s,h/G] / sum_s p_s, p_s = exp(scale q[r,h].k_cache[b,s,h/G] - m) over s = 0..=t, with (b, t) = rows[r]
// A workgroup owns one head of one row and walks its keys a block at a time: in the scores a lane owns every 64th key, in the
// sums, which stand in y itself, every 64th channel: any D.
#import grid, workgroup_max, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    B: u32,
    S: u32,
    H: u32,
    KV: u32,
    D: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> rows: array<u32>;     // (R, 2): sequence, last position that it sees
@group(0) @binding(1) var<storage, read> q: array<f32>;        // (R, H, D)
@group(0) @binding(2) var<storage, read> k_cache: array<f32>;  // (B, S, KV, D)
@group(0) @binding(3) var<storage, read> v_cache: array<f32>;  // (B, S, KV, D)
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // (R, H, D)
@group(0) @binding(5) var<uniform> params: Params;

const LANES: u32 = 64u;
const BLOCK: u32 = 256u;

var<workgroup> weights: array<f32, BLOCK>;

@compute @workgroup_size(LANES)
fn attention_cached(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    let D = params.D;
    let h = group % params.H;
    let r = group / params.H;
    if r >= params.R { return; } // the fold's overshoot
    let b = rows[2u * r];
    let t = rows[2u * r + 1u];
    let at = group * D;
    for (var d = lane; d < D; d += LANES) {
        y[at + d] = 0.0;
    }
    if b >= params.B || t >= params.S { return; } // a row of padding
    let stride = params.KV * D;
    let head = b * params.S * stride + h / (params.H / params.KV) * D;
    var m = -3.0e38;
    var l = 0.0; // of this lane's keys
    for (var first = 0u; first <= t; first += BLOCK) {
        let end = min(first + BLOCK, t + 1u);
        var top = -3.0e38;
        for (var s = first + lane; s < end; s += LANES) {
            var score = 0.0;
            for (var d = 0u; d < D; d += 1u) {
                score = fma(q[at + d], k_cache[head + s * stride + d], score);
            }
            score *= params.scale;
            weights[s - first] = score;
            top = max(top, score);
        }
        let largest = max(m, workgroup_max(top, lane));
        let shrink = exp(m - largest);
        m = largest;
        l *= shrink;
        for (var s = first + lane; s < end; s += LANES) {
            let weight = exp(weights[s - first] - m);
            weights[s - first] = weight;
            l += weight;
        }
        workgroupBarrier();
        for (var d = lane; d < D; d += LANES) {
            var sum = y[at + d] * shrink;
            for (var s = first; s < end; s += 1u) {
                sum = fma(weights[s - first], v_cache[head + s * stride + d], sum);
            }
            y[at + d] = sum;
        }
        workgroupBarrier(); // before the next block's weights
    }
    let total = workgroup_sum(l, lane);
    for (var d = lane; d < D; d += LANES) {
        y[at + d] /= total;
    }
}
