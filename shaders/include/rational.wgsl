
// Where Q takes its absolute values: 0 outside the sum (abs_sum), 1 at every term (sum_abs), else as the params say.
override SUM_ABS: u32 = 2u;

// Whether four neighbouring columns can lie in two groups.
override ACROSS_GROUPS: bool = false;

// F(x) = P(x) / Q(x) of four elements: P = a0 + a1 x + ... + a5 x^5, Q = 1 + |A(t)|, A = b1 t + b2 t^2 + b3 t^3 + b4 t^4. In
// the form abs_sum t is x; in the form sum_abs t is |x|, and b holds magnitudes.
struct Rational {
    a: array<vec4<f32>, 6>,
    b: array<vec4<f32>, 4>,
    sum_abs: bool,
}

// The function of a group, for four elements of it, in the form that the params name. The importing kernel has a (A, 6) in
// twos, b (G, 4) in fours and the params.
fn group_function(group: u32) -> Rational {
    let first = min(group, params.A - 1u) * 3u; // one numerator for all groups, or one each
    let a01 = a[first];
    let a23 = a[first + 1u];
    let a45 = a[first + 2u];
    let sum_abs = select(SUM_ABS, params.sum_abs, SUM_ABS > 1u) == 1u;
    let d = select(b[group], abs(b[group]), sum_abs);
    return Rational(
        array(vec4(a01.x), vec4(a01.y), vec4(a23.x), vec4(a23.y), vec4(a45.x), vec4(a45.y)),
        array(vec4(d.x), vec4(d.y), vec4(d.z), vec4(d.w)),
        sum_abs,
    );
}

// The functions of the columns from `column` to column + 3.
fn column_functions(column: u32) -> Rational {
    let width = params.C / params.G;
    let group = column / width;
    var f = group_function(group);
    if ACROSS_GROUPS {
        let next = group_function(min(group + 1u, params.G - 1u));
        let beyond = column + vec4(0u, 1u, 2u, 3u) >= vec4((group + 1u) * width);
        f.a[0] = select(f.a[0], next.a[0], beyond);
        f.a[1] = select(f.a[1], next.a[1], beyond);
        f.a[2] = select(f.a[2], next.a[2], beyond);
        f.a[3] = select(f.a[3], next.a[3], beyond);
        f.a[4] = select(f.a[4], next.a[4], beyond);
        f.a[5] = select(f.a[5], next.a[5], beyond);
        f.b[0] = select(f.b[0], next.b[0], beyond);
        f.b[1] = select(f.b[1], next.b[1], beyond);
        f.b[2] = select(f.b[2], next.b[2], beyond);
        f.b[3] = select(f.b[3], next.b[3], beyond);
    }
    return f;
}

// t of x.
fn denominator_argument(f: Rational, x: vec4<f32>) -> vec4<f32> {
    return select(x, abs(x), f.sum_abs);
}

// P(x).
fn numerator(f: Rational, x: vec4<f32>) -> vec4<f32> {
    var p = fma(f.a[5], x, f.a[4]);
    p = fma(p, x, f.a[3]);
    p = fma(p, x, f.a[2]);
    p = fma(p, x, f.a[1]);
    return fma(p, x, f.a[0]);
}

// P'(x).
fn numerator_slope(f: Rational, x: vec4<f32>) -> vec4<f32> {
    var r = fma(5.0 * f.a[5], x, 4.0 * f.a[4]);
    r = fma(r, x, 3.0 * f.a[3]);
    r = fma(r, x, 2.0 * f.a[2]);
    return fma(r, x, f.a[1]);
}

// A(t).
fn denominator_sum(f: Rational, t: vec4<f32>) -> vec4<f32> {
    var s = fma(f.b[3], t, f.b[2]);
    s = fma(s, t, f.b[1]);
    s = fma(s, t, f.b[0]);
    return s * t;
}

// A'(t).
fn denominator_slope(f: Rational, t: vec4<f32>) -> vec4<f32> {
    var s = fma(4.0 * f.b[3], t, 3.0 * f.b[2]);
    s = fma(s, t, 2.0 * f.b[1]);
    return fma(s, t, f.b[0]);
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
