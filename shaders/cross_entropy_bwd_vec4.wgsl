// dlogits[r, v] = dloss[r] (exp(logits[r, v] - lse[r]) - [v = targets[r]]),   0 in the padding columns v >= V
// A workgroup owns 1024 columns of one row; a lane takes every 64th group of four. stride is a multiple of 4.
#import grid, stored

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    V: u32,
    stride: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<vec4<f32>>;         // (R, stride)
@group(0) @binding(1) var<storage, read> targets: array<u32>;              // (R)
@group(0) @binding(2) var<storage, read> lse: array<f32>;                  // (R)
@group(0) @binding(3) var<storage, read> dloss: array<f32>;                // (R)
@group(0) @binding(4) var<storage, read_write> dlogits: array<Stored4>;    // (R, stride)
@group(0) @binding(5) var<uniform> params: Params;

const LANES: u32 = 64u;
const COLUMNS: u32 = 1024u; // so many that what belongs to the row is loaded seldom

@compute @workgroup_size(LANES)
fn cross_entropy_bwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = group_index(workgroup, grid, params.group_offset);
    let blocks = (params.stride + COLUMNS - 1u) / COLUMNS;
    let row = group / blocks;
    if row >= params.R { return; } // the fold's overshoot
    let row_target = targets[row];
    let row_lse = lse[row];
    let upstream = dloss[row];
    let quads = params.stride / 4u;
    let base = row * quads;
    let begin = (group % blocks) * (COLUMNS / 4u);
    let end = min(begin + COLUMNS / 4u, quads);
    for (var quad = begin + lane; quad < end; quad += LANES) {
        let v = vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u);
        let indicator = select(vec4<f32>(), vec4<f32>(1.0), v == vec4<u32>(row_target));
        let value = upstream * (exp(logits[base + quad] - row_lse) - indicator);
        dlogits[base + quad] = narrow(select(vec4<f32>(), value, v < vec4<u32>(params.V))); // the padding may hold anything
    }
}
