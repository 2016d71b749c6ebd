
const COEFFICIENTS: u32 = 10u;

// A lane's sums of the gradients to a0..a5 and b1..b4, four elements side by side.
struct Sums {
    a: array<vec4<f32>, 6>,
    b: array<vec4<f32>, 4>,
}

// Adds those of four elements; in the form sum_abs, b stands for the coefficients' magnitudes.
fn add_gradients(sums: ptr<function, Sums>, f: Rational, dy: vec4<f32>, x: vec4<f32>) {
    let t = denominator_argument(f, x);
    let inner = denominator_sum(f, t);
    let reciprocal = 1.0 / (1.0 + abs(inner));
    // dy x^i / Q, and -dy F sgn(A) t^j / Q: written out, for loops count against what lavapipe 22.3 grants an invocation.
    let a0 = dy * reciprocal;
    let a1 = a0 * x;
    let a2 = a1 * x;
    let a3 = a2 * x;
    let a4 = a3 * x;
    (*sums).a[0] += a0;
    (*sums).a[1] += a1;
    (*sums).a[2] += a2;
    (*sums).a[3] += a3;
    (*sums).a[4] += a4;
    (*sums).a[5] = fma(a4, x, (*sums).a[5]);
    let b1 = -a0 * sgn(inner) * (numerator(f, x) * reciprocal) * t;
    let b2 = b1 * t;
    let b3 = b2 * t;
    (*sums).b[0] += b1;
    (*sums).b[1] += b2;
    (*sums).b[2] += b3;
    (*sums).b[3] = fma(b3, t, (*sums).b[3]);
}

var<workgroup> lane_sums: array<f32, COEFFICIENTS * LANES>; // lane by lane: neither stores nor loads meet in a bank

// Gradient number `lane` of the workgroup's lanes together, in a fixed order; nothing for lanes from COEFFICIENTS on. The
// importing kernel declares LANES, its workgroup size: a multiple of 4. Contains a barrier: call it from uniform control
// flow, and once.
fn workgroup_gradient(sums: Sums, lane: u32) -> f32 {
    let at = lane * COEFFICIENTS;
    lane_sums[at] = sum4(sums.a[0]);
    lane_sums[at + 1u] = sum4(sums.a[1]);
    lane_sums[at + 2u] = sum4(sums.a[2]);
    lane_sums[at + 3u] = sum4(sums.a[3]);
    lane_sums[at + 4u] = sum4(sums.a[4]);
    lane_sums[at + 5u] = sum4(sums.a[5]);
    lane_sums[at + 6u] = sum4(sums.b[0]);
    lane_sums[at + 7u] = sum4(sums.b[1]);
    lane_sums[at + 8u] = sum4(sums.b[2]);
    lane_sums[at + 9u] = sum4(sums.b[3]);
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
