//! The group-rational function, shared by its cards (Yang & Wang 2024, Kolmogorov-Arnold Transformer).
//!
//! F(x) = P(x) / Q(x), P = a0 + a1 x + ... + a5 x^5, one function per group of neighbouring channels. The form `abs_sum`
//! has Q = 1 + |b1 x + ... + b4 x^4| (the paper's), the form `sum_abs` has Q = 1 + |b1||x| + ... + |b4||x|^4 (the
//! authors' released kernels). Where a derivative wants the sign of zero, it is +1: a denominator that begins at b = 0
//! would otherwise never learn.

use crate::{Case, Fill, Param, Params, Variant};

/// Coefficients of a numerator and of a denominator.
pub(crate) const NUMERATOR: usize = 6;
pub(crate) const DENOMINATOR: usize = 4;

/// Lanes of a workgroup in every variant.
pub(crate) const LANES: u64 = 64;

/// Rows that a lane of the forward kernel takes its coefficients for: a multiple of 4. On lavapipe 22.3 (2048 x 768,
/// processor time) 4 and 8 took 1.2 to 1.4 times as long, 32 the same, 64 more than twice.
pub(crate) const ROWS: usize = 16;

/// The same for the gradient to x: with 16, of 1032 columns, it took 1.8 times as long (lavapipe 22.3). So many rows of three
/// tensors do not stay in the cache until a lane comes to the next columns.
pub(crate) const ROWS_BACKWARD: usize = 8;

/// Elements of one task of the CPU kernels, in whole rows.
const CHUNK: usize = 1 << 13;

/// Params of every card, before its own: rows, channels, groups, numerators (1 or `G`), and the form (0 or 1).
pub(crate) const PARAMS: [Param; 5] =
    [Param::Dim("R"), Param::Dim("C"), Param::Dim("G"), Param::Dim("A"), Param::Dim("sum_abs")];

/// Whether rows are whole fours of columns, of two groups at most, in this form.
pub(crate) fn in_fours(p: &Params, form: usize) -> bool {
    p.dim("C").is_multiple_of(4) && width(p) >= 4 && p.dim("sum_abs") == form
}

/// The same with every four in one group.
fn in_fours_of_groups(p: &Params, form: usize) -> bool {
    width(p).is_multiple_of(4) && p.dim("sum_abs") == form
}

/// Variants of an elementwise kernel: a lane owns some rows of four columns, for each form; or of a column, for every width
/// and form.
pub(crate) const fn elementwise<const ROWS: usize>(vec4: &'static str, scalar: &'static str) -> [Variant; 5] {
    let consts: &[_] = const { &[("ROWS", ROWS as u32)] };
    let vec4 = Variant { consts, ..Variant::portable("", vec4, |p, _| strips(p, ROWS, 4), |_, _| ROWS as u64) };
    [
        Variant { name: "vec4_abs_sum", overrides: &[("SUM_ABS", 0.0)], fits: |p| in_fours_of_groups(p, 0), ..vec4 },
        Variant { name: "vec4_sum_abs", overrides: &[("SUM_ABS", 1.0)], fits: |p| in_fours_of_groups(p, 1), ..vec4 },
        Variant {
            name: "vec4_across_groups_abs_sum",
            overrides: &[("SUM_ABS", 0.0), ("ACROSS_GROUPS", 1.0)],
            fits: |p| in_fours(p, 0),
            ..vec4
        },
        Variant {
            name: "vec4_across_groups_sum_abs",
            overrides: &[("SUM_ABS", 1.0), ("ACROSS_GROUPS", 1.0)],
            fits: |p| in_fours(p, 1),
            ..vec4
        },
        Variant { consts, ..Variant::portable("scalar", scalar, |p, _| strips(p, ROWS, 1), |_, _| (ROWS / 4) as u64) },
    ]
}

/// Workgroups whose lanes own so many rows of so many columns.
fn strips(p: &Params, rows: usize, columns: usize) -> u64 {
    (p.dim("R").div_ceil(rows) as u64 * (p.dim("C") / columns) as u64).div_ceil(LANES)
}

/// Channels of a group.
pub(crate) fn width(p: &Params) -> usize {
    p.dim("C") / p.dim("G")
}

/// Elements in the rows of a CPU kernel's task.
pub(crate) fn chunk(channels: usize) -> usize {
    (CHUNK / channels).max(1) * channels
}

/// The function of one group, in f32; `SUM_ABS` is its form.
#[derive(Clone, Copy)]
pub(crate) struct Rational<const SUM_ABS: bool> {
    pub(crate) a: [f32; NUMERATOR],
    /// Magnitudes in the form `sum_abs`.
    pub(crate) b: [f32; DENOMINATOR],
}

impl<const SUM_ABS: bool> Rational<SUM_ABS> {
    /// Those of all groups.
    pub(crate) fn groups(a: &[f32], b: &[f32]) -> Vec<Self> {
        let (numerators, _) = a.as_chunks();
        let (denominators, _) = b.as_chunks();
        let magnitude = |b: f32| if SUM_ABS { b.abs() } else { b };
        let group = |(group, b): (usize, &[f32; DENOMINATOR])| Self {
            a: numerators[group.min(numerators.len() - 1)],
            b: b.map(magnitude),
        };
        denominators.iter().enumerate().map(group).collect()
    }

    /// F(x).
    #[inline(always)]
    pub(crate) fn value(&self, x: f32) -> f32 {
        self.numerator(x) / (1.0 + self.inner(Self::argument(x)).abs())
    }

    /// dF/dx = (P' - S F) / Q, S the derivative of Q.
    #[inline(always)]
    pub(crate) fn slope(&self, x: f32) -> f32 {
        let (a, b, t) = (&self.a, &self.b, Self::argument(x));
        let inner = self.inner(t);
        let reciprocal = 1.0 / (1.0 + inner.abs());
        let numerator_slope = (((5.0 * a[5] * x + 4.0 * a[4]) * x + 3.0 * a[3]) * x + 2.0 * a[2]) * x + a[1];
        let inner_slope = ((4.0 * b[3] * t + 3.0 * b[2]) * t + 2.0 * b[1]) * t + b[0];
        // Either the sum or x changes the sign: in the form sum_abs the sum is never negative.
        let s = sgn(if SUM_ABS { x } else { inner }) * inner_slope;
        (numerator_slope - s * self.numerator(x) * reciprocal) * reciprocal
    }

    #[inline(always)]
    fn numerator(&self, x: f32) -> f32 {
        let a = &self.a;
        ((((a[5] * x + a[4]) * x + a[3]) * x + a[2]) * x + a[1]) * x + a[0]
    }

    /// b1 t + ... + b4 t^4.
    #[inline(always)]
    fn inner(&self, t: f32) -> f32 {
        let b = &self.b;
        (((b[3] * t + b[2]) * t + b[1]) * t + b[0]) * t
    }

    #[inline(always)]
    fn argument(x: f32) -> f32 {
        if SUM_ABS { x.abs() } else { x }
    }
}

/// -1 below zero, else 1.
#[inline(always)]
pub(crate) fn sgn(v: f32) -> f32 {
    if v < 0.0 { -1.0 } else { 1.0 }
}

/// F at one point and its derivatives, in f64.
pub(crate) struct Point {
    pub(crate) value: f64,
    pub(crate) dx: f64,
    pub(crate) da: [f64; NUMERATOR],
    pub(crate) db: [f64; DENOMINATOR],
}

impl Point {
    /// At `x` in channel `channel`.
    pub(crate) fn new(p: &Params, a: &[f64], b: &[f64], channel: usize, x: f64) -> Self {
        let group = channel / width(p);
        let numerator = if p.dim("A") == 1 { 0 } else { group };
        let a = &a[numerator * NUMERATOR..][..NUMERATOR];
        let b = &b[group * DENOMINATOR..][..DENOMINATOR];
        let sign = |v: f64| if v < 0.0 { -1.0 } else { 1.0 };
        let power = |x: f64, n: usize| x.powi(n as i32);
        let p_of_x: f64 = (0..NUMERATOR).map(|i| a[i] * power(x, i)).sum();
        let p_slope: f64 = (1..NUMERATOR).map(|i| i as f64 * a[i] * power(x, i - 1)).sum();
        // Q, dQ/dx and dQ/db, each as its form's definition says; j is the coefficient's power.
        let terms = || (1..).zip(b);
        let (q, q_slope, dq): (f64, f64, Vec<f64>) = if p.dim("sum_abs") == 1 {
            (
                1.0 + terms().map(|(j, b)| b.abs() * power(x.abs(), j)).sum::<f64>(),
                sign(x) * terms().map(|(j, b)| j as f64 * b.abs() * power(x.abs(), j - 1)).sum::<f64>(),
                terms().map(|(j, b)| sign(*b) * power(x.abs(), j)).collect(),
            )
        } else {
            let sum: f64 = terms().map(|(j, b)| b * power(x, j)).sum();
            (
                1.0 + sum.abs(),
                sign(sum) * terms().map(|(j, b)| j as f64 * b * power(x, j - 1)).sum::<f64>(),
                terms().map(|(j, _)| sign(sum) * power(x, j)).collect(),
            )
        };
        Self {
            value: p_of_x / q,
            dx: p_slope / q - q_slope * p_of_x / (q * q),
            da: std::array::from_fn(|i| power(x, i) / q),
            db: std::array::from_fn(|j| -p_of_x / (q * q) * dq[j]),
        }
    }
}

/// Cases of the backward cards: shapes with the form's number, inputs away from the kinks of Q, where a central
/// difference is no derivative.
pub(crate) fn smooth_cases() -> Vec<Case> {
    // The sum has the sign of x here, for 0.6 - 0.7 t + 0.6 t^2 - 0.7 t^3 > 0 up to t = 0.7; ...
    let both_signs = (0, (-0.7, 0.7), (0.6, 0.7));
    // ... and is negative here throughout, for 0.7 - 0.6 t + 0.7 t^2 - 0.6 t^3 < 0 from t = 1.5 on.
    let negative_sum = (0, (-2.5, -1.5), (-0.7, -0.6));
    let positive = (0, (0.1, 2.5), (0.1, 1.0));
    let negative_x = (1, (-2.5, -0.1), (0.1, 1.0));
    let negative_b = (1, (0.1, 2.5), (-1.0, -0.1));
    let any = (1, (-2.0, 2.0), (-1.0, 1.0));
    [
        ((1, 1, 1, 1), positive),
        ((1, 2, 2, 1), negative_b),
        ((5, 26, 2, 2), both_signs),
        ((67, 26, 2, 1), negative_sum),
        ((7, 3, 3, 3), negative_sum),
        ((39, 13, 1, 1), any),
        ((18, 15, 3, 1), negative_x),
        ((67, 3, 3, 1), any),
        ((33, 48, 3, 1), both_signs),
        ((19, 8, 2, 2), negative_sum),
        ((150, 64, 4, 4), positive),
        ((9, 260, 1, 1), both_signs),
        ((33, 48, 3, 3), any),
        ((19, 8, 2, 1), negative_b),
        ((150, 64, 4, 1), negative_x),
        ((9, 260, 1, 1), any),
        // Fours of columns in two groups.
        ((18, 20, 4, 4), both_signs),
        ((37, 52, 4, 1), positive),
        ((33, 28, 2, 2), any),
        ((5, 84, 12, 1), negative_x),
    ]
    .map(|((r, c, g, a), (form, (x_low, x_high), (b_low, b_high)))| {
        case(r, c, g, a, form).fill("x", Fill::Uniform(x_low, x_high)).fill("b", Fill::Uniform(b_low, b_high))
    })
    .to_vec()
}

/// N(0, 1) in every argument.
pub(crate) fn case(rows: usize, channels: usize, groups: usize, numerators: usize, form: usize) -> Case {
    Case::new(Params::dims([("R", rows), ("C", channels), ("G", groups), ("A", numerators), ("sum_abs", form)]))
}

#[cfg(test)]
mod tests {
    use super::{DENOMINATOR, NUMERATOR, Point, case};

    /// Fitted to x sigmoid(x); good in both forms.
    const SWISH: ([f64; NUMERATOR], [f64; DENOMINATOR]) = (
        [
            3.054879741161051e-7,
            0.5000007853744493,
            0.24999783422824703,
            0.05326628273219478,
            0.005803034571292244,
            0.0002751961022402342,
        ],
        [-4.111554955950634e-6, 0.10652899335007572, -1.2690007399796238e-6, 0.0005502331264140556],
    );

    /// Signs of all kinds: below zero the forms agree, above they do not.
    const MIXED: ([f64; NUMERATOR], [f64; DENOMINATOR]) = ([0.2, -0.4, 0.9, -0.2, 0.05, 0.01], [0.9, -0.7, 0.25, -0.1]);

    fn point(form: usize, (a, b): ([f64; NUMERATOR], [f64; DENOMINATOR]), x: f64) -> Point {
        Point::new(&case(1, 1, 1, 1, form).params, &a, &b, 0, x)
    }

    #[track_caller]
    fn assert_near(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert!((got - expected).abs() <= tolerance, "{what}, {i}: expected {expected}, got {got}");
        }
    }

    #[test]
    fn swish_of_the_released_form() {
        let expected = [
            (-3.0, -0.14227882, -0.0880869),
            (-1.7, -0.26259069, -0.06756342),
            (-0.5, -0.18877053, 0.26003976),
            (0.0, 3.05e-7, 0.50000079),
            (0.3, 0.17233296, 0.64777881),
            (1.0, 0.73105834, 0.92767147),
            (2.5, 2.31035454, 1.09940355),
            (6.0, 5.97754935, 1.00313858),
        ];
        for (x, value, dx) in expected {
            let got = point(1, SWISH, x);
            assert_near(&format!("F({x})"), &[got.value, got.dx], &[value, dx], 1e-8);
        }
    }

    #[test]
    fn swish_is_swish_in_both_forms() {
        for (form, tolerance) in [(0, 1.4e-4), (1, 1.3e-6)] {
            for i in -300..=300 {
                let x = f64::from(i) / 100.0;
                let swish = x / (1.0 + (-x).exp());
                assert_near(&format!("form {form}, F({x})"), &[point(form, SWISH, x).value], &[swish], tolerance);
            }
        }
    }

    #[test]
    fn derivatives_of_both_forms() {
        // Form, x, F, dF/dx, dF/da, dF/db: six digits.
        let expected = [
            (
                0,
                -2.0,
                0.72608696,
                -0.00127599,
                [0.108696, -0.217391, 0.434783, -0.869565, 1.739130, -3.478261],
                [-0.157845, 0.315690, -0.631380, 1.262760],
            ),
            (
                0,
                -0.75,
                0.50051797,
                -0.40094406,
                [0.453338, -0.340004, 0.255003, -0.191252, 0.143439, -0.107579],
                [-0.170178, 0.127633, -0.095725, 0.071794],
            ),
            (
                0,
                0.25,
                0.12941807,
                -0.05116390,
                [0.844049, 0.211012, 0.052753, 0.013188, 0.003297, 0.000824],
                [-0.027309, -0.006827, -0.001707, -0.000427],
            ),
            (
                1,
                0.25,
                0.12044339,
                -0.11086196,
                [0.785517, 0.196379, 0.049095, 0.012274, 0.003068, 0.000767],
                [-0.023653, 0.005913, -0.001478, 0.000370],
            ),
            (
                0,
                1.5,
                1.14971910,
                2.57955751,
                [0.898876, 1.348315, 2.022472, 3.033708, 4.550562, 6.825843],
                [-1.550183, -2.325275, -3.487912, -5.231868],
            ),
            (
                1,
                1.5,
                0.24247630,
                0.07851646,
                [0.189573, 0.284360, 0.426540, 0.639810, 0.959716, 1.439573],
                [-0.068951, 0.103426, -0.155139, 0.232708],
            ),
        ];
        let agreeing = expected[..2].iter().map(|&(_, x, value, dx, da, db)| (1, x, value, dx, da, db));
        for (form, x, value, dx, da, db) in expected.into_iter().chain(agreeing) {
            let got = point(form, MIXED, x);
            let what = format!("form {form} at {x}");
            assert_near(&what, &[got.value, got.dx], &[value, dx], 6e-9);
            assert_near(&what, &got.da, &da, 6e-7);
            assert_near(&what, &got.db, &db, 6e-7);
        }
    }

    #[test]
    fn identity_learns_its_denominator() {
        // sgn(0) = +1: with b = 0, dF/db_j = -x x^j, or -x |x|^j in the form sum_abs; a zero sign would freeze b there.
        let identity = ([0.0, 1.0, 0.0, 0.0, 0.0, 0.0], [0.0; DENOMINATOR]);
        let expected = [[-2.25, 3.375, -5.0625, 7.59375], [2.25, 3.375, 5.0625, 7.59375]];
        for form in [0, 1] {
            let got = point(form, identity, -1.5);
            assert_eq!((got.value, got.dx), (-1.5, 1.0));
            assert_near("db", &got.db, &expected[form], 0.0);
        }
    }
}
