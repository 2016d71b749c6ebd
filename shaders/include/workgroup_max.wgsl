
var<workgroup> lane_maxima: array<f32, LANES>;

// Largest of the values that the workgroup's lanes bring, for all of them; a NaN may be passed over. The importing
// kernel declares LANES, its workgroup size: a power of two. Contains barriers: call it from uniform control flow.
fn workgroup_max(value: f32, lane: u32) -> f32 {
    lane_maxima[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half { lane_maxima[lane] = max(lane_maxima[lane], lane_maxima[lane + half]); }
        workgroupBarrier();
    }
    return workgroupUniformLoad(&lane_maxima[0]); // ends with a barrier: the next call may write
}
