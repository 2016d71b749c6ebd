// dlogits[r, v] = dloss[r] (exp(logits[r, v] - lse[r]) - [v = targets[r]]),   0 in the padding columns v >= V
// A workgroup owns 1024 columns of one row; a lane takes every 64th of them.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    V: u32,
    stride: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<f32>;         // (R, stride)
@group(0) @binding(1) var<storage, read> targets: array<u32>;        // (R)
@group(0) @binding(2) var<storage, read> lse: array<f32>;            // (R)
@group(0) @binding(3) var<storage, read> dloss: array<f32>;          // (R)
@group(0) @binding(4) var<storage, read_write> dlogits: array<f32>;  // (R, stride)
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
    let base = row * params.stride;
    let begin = (group % blocks) * COLUMNS;
    let end = min(begin + COLUMNS, params.stride);
    for (var v = begin + lane; v < end; v += LANES) {
        let indicator = select(0.0, 1.0, v == row_target);
        let value = upstream * (exp(logits[base + v] - row_lse) - indicator);
        dlogits[base + v] = select(0.0, value, v < params.V); // the padding may hold anything
    }
}
