
// Where Q takes its absolute values: 0 outside the sum (abs_sum), 1 at every term (sum_abs), else as the params say.
override SUM_ABS: u32 = 2u;

// One group's F(x) = P(x) / Q(x): P = a0 + a1 x + ... + a5 x^5, Q = 1 + |A(t)|, A = b1 t + b2 t^2 + b3 t^3 + b4 t^4. In the
// form abs_sum t is x; in the form sum_abs t is |x|, and b holds magnitudes.
struct Rational {
    a01: vec2<f32>,
    a23: vec2<f32>,
    a45: vec2<f32>,
    b: vec4<f32>,
    sum_abs: bool,
}

// The function with these coefficients, of the form that the params name.
fn rational(a01: vec2<f32>, a23: vec2<f32>, a45: vec2<f32>, b: vec4<f32>, form: u32) -> Rational {
    let sum_abs = select(SUM_ABS, form, SUM_ABS > 1u) == 1u;
    return Rational(a01, a23, a45, select(b, abs(b), sum_abs), sum_abs);
}

// t of x.
fn denominator_argument(f: Rational, x: vec4<f32>) -> vec4<f32> {
    return select(x, abs(x), f.sum_abs);
}

// P(x).
fn numerator(f: Rational, x: vec4<f32>) -> vec4<f32> {
    var p = fma(vec4(f.a45.y), x, vec4(f.a45.x));
    p = fma(p, x, vec4(f.a23.y));
    p = fma(p, x, vec4(f.a23.x));
    p = fma(p, x, vec4(f.a01.y));
    return fma(p, x, vec4(f.a01.x));
}

// P'(x).
fn numerator_slope(f: Rational, x: vec4<f32>) -> vec4<f32> {
    var r = fma(vec4(5.0 * f.a45.y), x, vec4(4.0 * f.a45.x));
    r = fma(r, x, vec4(3.0 * f.a23.y));
    r = fma(r, x, vec4(2.0 * f.a23.x));
    return fma(r, x, vec4(f.a01.y));
}

// A(t).
fn denominator_sum(f: Rational, t: vec4<f32>) -> vec4<f32> {
    var s = fma(vec4(f.b.w), t, vec4(f.b.z));
    s = fma(s, t, vec4(f.b.y));
    s = fma(s, t, vec4(f.b.x));
    return s * t;
}

// A'(t).
fn denominator_slope(f: Rational, t: vec4<f32>) -> vec4<f32> {
    var s = fma(vec4(4.0 * f.b.w), t, vec4(3.0 * f.b.z));
    s = fma(s, t, vec4(2.0 * f.b.y));
    return fma(s, t, vec4(f.b.x));
}

// -1 below zero, else 1, zero included: a denominator that begins at b = 0 would otherwise have no gradient and stay there.
fn sgn(v: vec4<f32>) -> vec4<f32> {
    return select(vec4(1.0), vec4(-1.0), v < vec4<f32>());
}

// dF/dx = (P'(x) - S F(x)) / Q(x), S = sgn(A(t)) A'(t) dt/dx. In the form sum_abs A is never negative and dt/dx = sgn(x).
fn slope(f: Rational, x: vec4<f32>) -> vec4<f32> {
    let t = denominator_argument(f, x);
    let inner = denominator_sum(f, t);
    let reciprocal = 1.0 / (1.0 + abs(inner));
    let s = sgn(select(inner, x, f.sum_abs)) * denominator_slope(f, t);
    return (numerator_slope(f, x) - s * numerator(f, x) * reciprocal) * reciprocal;
}
