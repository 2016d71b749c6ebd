// y[c] (+)= sum_s x[s, c]
// A workgroup owns 8 columns; of its 64 lanes, 8 share a column, take every 8th row each and are then summed in order.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    S: u32,
    C: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;        // (S, C)
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // (C)
@group(0) @binding(2) var<uniform> params: Params;

const COLUMNS: u32 = 8u;
const SHARERS: u32 = 8u;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn column_sum(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = group_index(workgroup, grid, params.group_offset) * COLUMNS;
    if first >= params.C { return; } // the fold's overshoot
    let c = first + lane % COLUMNS;
    var part = 0.0;
    if c < params.C {
        for (var s = lane / COLUMNS; s < params.S; s += SHARERS) {
            part += x[s * params.C + c];
        }
    }
    sums[lane] = part;
    workgroupBarrier();
    if lane >= COLUMNS || c >= params.C { return; } // one lane per column is left
    var sum = sums[lane];
    for (var i = 1u; i < SHARERS; i += 1u) {
        sum += sums[i * COLUMNS + lane];
    }
    if params.accumulate != 0u { sum += y[c]; }
    y[c] = sum;
}
