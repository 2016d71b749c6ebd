// y[r,h] = sum_s p_s v_cache[b,s,h/G] / sum_s p_s, p_s = exp(scale q[r,h].k_cache[b,s,h/G] - m) over s = 0..=t, with (b, t) = rows[r]
// A workgroup owns one head of one row and walks its keys a block at a time: in the scores a lane owns every 64th key, in the
// sums four channels of every key of its share; the shares are added up at the end.
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

@group(0) @binding(0) var<storage, read> rows: array<u32>;           // (R, 2): sequence, last position that it sees
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;        // (R, H, D/4)
@group(0) @binding(2) var<storage, read> k_cache: array<vec4<f32>>;  // (B, S, KV, D/4)
@group(0) @binding(3) var<storage, read> v_cache: array<vec4<f32>>;  // (B, S, KV, D/4)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;  // (R, H, D/4)
@group(0) @binding(5) var<uniform> params: Params;

const LANES: u32 = 64u;
const BLOCK: u32 = 256u;

var<workgroup> query: array<vec4<f32>, LANES>;
var<workgroup> weights: array<f32, BLOCK>;
var<workgroup> shares: array<vec4<f32>, LANES>;

@compute @workgroup_size(LANES)
fn attention_cached(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    let width = params.D / 4u;
    let h = group % params.H;
    let r = group / params.H;
    if r >= params.R { return; } // the fold's overshoot
    let b = rows[2u * r];
    let t = rows[2u * r + 1u];
    let at = group * width;
    if b >= params.B || t >= params.S { // a row of padding
        if lane < width { y[at + lane] = vec4(0.0); }
        return;
    }
    if lane < width { query[lane] = params.scale * q[at + lane]; }
    workgroupBarrier();
    let stride = params.KV * width;
    let head = b * params.S * stride + h / (params.H / params.KV) * width;
    let share = lane / width;
    let all_shares = LANES / width;
    var m = -3.0e38;
    var l = 0.0; // of this lane's keys
    var sum = vec4(0.0); // of this lane's share
    for (var first = 0u; first <= t; first += BLOCK) {
        let end = min(first + BLOCK, t + 1u);
        var top = -3.0e38;
        for (var s = first + lane; s < end; s += LANES) {
            let key = head + s * stride;
            var score = 0.0;
            for (var d = 0u; d < width; d += 1u) {
                score += dot(query[d], k_cache[key + d]);
            }
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
        sum *= shrink;
        if share < all_shares {
            for (var s = first + share; s < end; s += all_shares) {
                sum = fma(vec4(weights[s - first]), v_cache[head + s * stride + lane % width], sum);
            }
        }
        workgroupBarrier(); // before the next block's weights
    }
    shares[lane] = sum;
    let total = workgroup_sum(l, lane); // behind its barrier all shares are there
    if lane < width {
        for (var other = lane + width; other < all_shares * width; other += width) {
            sum += shares[other];
        }
        y[at + lane] = sum / total;
    }
}
