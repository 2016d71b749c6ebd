
// Gradient number `lane` of the workgroup's lanes together, in a fixed order, where they are one subgroup: no barrier of the
// workgroup, for which lavapipe 22.3 takes a kernel apart into coroutines whose sums live in memory. Of no use from lane
// COEFFICIENTS on. The importing kernel declares LANES: at least COEFFICIENTS.
fn workgroup_gradient(sums: Sums, lane: u32) -> f32 {
    var totals = array<f32, COEFFICIENTS>();
    for (var i = 0u; i < LANES; i += 1u) {
        totals[0] += subgroupShuffle(sums.a[0], i);
        totals[1] += subgroupShuffle(sums.a[1], i);
        totals[2] += subgroupShuffle(sums.a[2], i);
        totals[3] += subgroupShuffle(sums.a[3], i);
        totals[4] += subgroupShuffle(sums.a[4], i);
        totals[5] += subgroupShuffle(sums.a[5], i);
        totals[6] += subgroupShuffle(sums.b[0], i);
        totals[7] += subgroupShuffle(sums.b[1], i);
        totals[8] += subgroupShuffle(sums.b[2], i);
        totals[9] += subgroupShuffle(sums.b[3], i);
    }
    return totals[min(lane, COEFFICIENTS - 1u)];
}
