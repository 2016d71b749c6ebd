// dw[v, c] = sum over rows r with ids[r] = v, ascending, of dy[r, c]; or dw[v, c] += it with accumulate
// A workgroup owns 256 elements of dw; a lane owns four of one row and walks its token's rows. C is a multiple of 4.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    R: u32,
    V: u32,
    C: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<vec4<f32>>;        // (R, C)
@group(0) @binding(1) var<storage, read> order: array<u32>;           // (R), rows sorted by id
@group(0) @binding(2) var<storage, read> start: array<u32>;           // (V), where an id's rows begin in order
@group(0) @binding(3) var<storage, read_write> dw: array<vec4<f32>>;  // (V, C)
@group(0) @binding(4) var<uniform> params: Params;

// The host has checked what it sorted; the clamp keeps a stray row inside dy on every driver.
fn gradient(position: u32, c: u32, columns: u32) -> vec4<f32> {
    return dy[min(order[position], params.R - 1u) * columns + c];
}

@compute @workgroup_size(64)
fn embedding_bwd(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    let columns = params.C / 4u; // in fours
    let v = i / columns;
    let c = i % columns;
    if v >= params.V { return; } // the last group's tail, and the fold's overshoot
    var at = start[v];
    var end = params.R;
    if v + 1u < params.V { end = min(start[v + 1u], end); } // as above
    if at >= end && params.accumulate != 0u { return; } // nothing to add
    var sum = vec4<f32>();
    // Four loads in flight; frequent tokens own many rows.
    for (; at + 4u <= end; at += 4u) {
        let d0 = gradient(at, c, columns);
        let d1 = gradient(at + 1u, c, columns);
        let d2 = gradient(at + 2u, c, columns);
        let d3 = gradient(at + 3u, c, columns);
        sum = (((sum + d0) + d1) + d2) + d3;
    }
    for (; at < end; at += 1u) {
        sum += gradient(at, c, columns);
    }
    if params.accumulate != 0u { sum += dw[i]; }
    dw[i] = sum;
}
