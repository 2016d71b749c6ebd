
var<workgroup> lane_sums: array<f32, LANES>;

// Sum of the values that the workgroup's lanes bring, in a fixed order, for all of them. The importing kernel declares
// LANES, its workgroup size: a power of two. Contains barriers: call it from uniform control flow.
fn workgroup_sum(value: f32, lane: u32) -> f32 {
    lane_sums[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half { lane_sums[lane] += lane_sums[lane + half]; }
        workgroupBarrier();
    }
    return workgroupUniformLoad(&lane_sums[0]); // ends with a barrier: the next call may write
}
