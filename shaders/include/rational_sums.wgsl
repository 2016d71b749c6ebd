
const COEFFICIENTS: u32 = 10u;

// A lane's sums of the gradients to a0..a5 and b1..b4.
struct Sums {
    a: array<f32, 6>,
    b: array<f32, 4>,
}

// Adds those of four elements; in the form sum_abs, b stands for the coefficients' magnitudes. The four are added up at once:
// ten sums stay in registers, where forty would not.
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
    (*sums).a[0] += sum4(a0);
    (*sums).a[1] += sum4(a1);
    (*sums).a[2] += sum4(a2);
    (*sums).a[3] += sum4(a3);
    (*sums).a[4] += sum4(a4);
    (*sums).a[5] += sum4(a4 * x);
    let b1 = -a0 * sgn(inner) * (numerator(f, x) * reciprocal) * t;
    let b2 = b1 * t;
    let b3 = b2 * t;
    (*sums).b[0] += sum4(b1);
    (*sums).b[1] += sum4(b2);
    (*sums).b[2] += sum4(b3);
    (*sums).b[3] += sum4(b3 * t);
}
