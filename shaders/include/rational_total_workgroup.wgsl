
var<workgroup> lane_sums: array<f32, COEFFICIENTS * LANES>; // lane by lane: neither stores nor loads meet in a bank

// Gradient number `lane` of the workgroup's lanes together, in a fixed order; nothing for lanes from COEFFICIENTS on. The
// importing kernel declares LANES, its workgroup size: a multiple of 4. Contains a barrier: call it from uniform control
// flow, and once.
fn workgroup_gradient(sums: Sums, lane: u32) -> f32 {
    let at = lane * COEFFICIENTS;
    lane_sums[at] = sums.a[0];
    lane_sums[at + 1u] = sums.a[1];
    lane_sums[at + 2u] = sums.a[2];
    lane_sums[at + 3u] = sums.a[3];
    lane_sums[at + 4u] = sums.a[4];
    lane_sums[at + 5u] = sums.a[5];
    lane_sums[at + 6u] = sums.b[0];
    lane_sums[at + 7u] = sums.b[1];
    lane_sums[at + 8u] = sums.b[2];
    lane_sums[at + 9u] = sums.b[3];
    workgroupBarrier();
    if lane >= COEFFICIENTS { return 0.0; }
    var total = vec4<f32>();
    for (var i = lane; i < COEFFICIENTS * LANES; i += 4u * COEFFICIENTS) {
        total += vec4(
            lane_sums[i],
            lane_sums[i + COEFFICIENTS],
            lane_sums[i + 2u * COEFFICIENTS],
            lane_sums[i + 3u * COEFFICIENTS],
        );
    }
    return sum4(total);
}
