// y = scale sum_i x[i], or y += scale sum_i x[i] with accumulate.
// One workgroup owns everything: a lane sums every 256th element, the lanes are then summed as a tree.
#import grid, workgroup_sum

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
    scale: f32,
    accumulate: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;        // (N)
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // (1)
@group(0) @binding(2) var<uniform> params: Params;

const LANES: u32 = 256u;

@compute @workgroup_size(LANES)
fn sum(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if group_index(workgroup, grid, params.group_offset) > 0u { return; } // the fold's overshoot
    var part = 0.0;
    for (var i = lane; i < params.N; i += LANES) {
        part += x[i];
    }
    let total = workgroup_sum(part, lane);
    if lane == 0u {
        var value = params.scale * total;
        if params.accumulate != 0u { value += y[0]; }
        y[0] = value;
    }
}
