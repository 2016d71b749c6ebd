// y = median of |x[0]|, |x[stride]|, ...; of an even number of elements the mean of the two in the middle
// One workgroup owns everything: a lane counts every 256th element. Radix select, from the highest bits down.
#import grid

struct Params {
    groups: u32,
    group_offset: u32,
    N: u32,
    stride: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;        // (N)
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // (1)
@group(0) @binding(2) var<uniform> params: Params;

const LANES: u32 = 256u; // also the bins of 8 bits
const MAGNITUDE: u32 = 0x7fffffffu; // without the sign, bits are in the order of magnitudes

var<workgroup> histogram: array<atomic<u32>, LANES>;
var<workgroup> chosen: vec3<u32>; // the bin that the rank falls into, elements below it, elements in it
var<workgroup> above: atomic<u32>;

@compute @workgroup_size(LANES)
fn magnitude_median(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if group_index(workgroup, grid, params.group_offset) > 0u { return; } // the fold's overshoot
    let count = (params.N + params.stride - 1u) / params.stride;
    var prefix = 0u; // the median's bits that are known
    var known = 31u; // it has no bits from here up but the prefix's
    var rank = (count - 1u) / 2u; // of the (lower) median among the elements with that prefix
    var equal = 0u;
    for (var digit = 0u; digit < 4u; digit += 1u) {
        let shift = max(known, 8u) - 8u; // 8 bits more; the last 8 have one that is known
        atomicStore(&histogram[lane], 0u);
        workgroupBarrier();
        for (var i = lane; i < count; i += LANES) {
            let bits = bitcast<u32>(x[i * params.stride]) & MAGNITUDE;
            if bits >> known == prefix >> known { atomicAdd(&histogram[(bits >> shift) % LANES], 1u); }
        }
        workgroupBarrier();
        if lane == 0u {
            var below = 0u;
            var bin = 0u;
            var within = atomicLoad(&histogram[0]);
            while bin < LANES - 1u && below + within <= rank {
                below += within;
                bin += 1u;
                within = atomicLoad(&histogram[bin]);
            }
            chosen = vec3(bin, below, within);
        }
        let choice = workgroupUniformLoad(&chosen);
        prefix |= choice.x << shift;
        rank -= choice.y;
        equal = choice.z;
        known = shift;
    }
    var upper = prefix;
    if count % 2u == 0u && rank + 1u == equal {
        // The lower of the two in the middle is the last of its value: the upper one is the least of those above.
        if lane == 0u { atomicStore(&above, MAGNITUDE); }
        workgroupBarrier();
        var least = MAGNITUDE;
        for (var i = lane; i < count; i += LANES) {
            let bits = bitcast<u32>(x[i * params.stride]) & MAGNITUDE;
            if bits > prefix { least = min(least, bits); }
        }
        atomicMin(&above, least);
        workgroupBarrier();
        upper = atomicLoad(&above);
    }
    // Halved first: the sum of two large ones would overflow.
    if lane == 0u { y[0] = 0.5 * bitcast<f32>(prefix) + 0.5 * bitcast<f32>(upper); }
}
