//! The group-rational activation of KAT (Yang & Wang 2024, "Kolmogorov-Arnold Transformer"): F(x) = P(x) / Q(x) with
//! P of degree 5 and Q of degree 4, elementwise, its coefficients shared inside a group of neighbouring channels.
//!
//! Two different functions carry that name. The paper has Q = 1 + |b1 x + ... + b4 x^4|, the released kernels have
//! Q = 1 + |b1| |x| + ... + |b4| |x|^4. Most coefficient sets were fitted for one of the two and are far off in the
//! other, so a set is only accepted with a form that it was fitted for.

use crate::choices;

/// Coefficients of the numerator, a0 to a5.
pub const NUMERATOR: usize = 6;
/// Coefficients of the denominator, b1 to b4.
pub const DENOMINATOR: usize = 4;

choices! {
    /// Where the denominator takes absolute values.
    RationalForm {
        /// Q = 1 + |b1 x + ... + b4 x^4|, as in the paper.
        AbsSum = "abs_sum",
        /// Q = 1 + |b1| |x| + ... + |b4| |x|^4, as in the released kernels.
        SumAbs = "sum_abs",
    }
    /// The function that a rational activation starts as.
    RationalSet {
        /// x, exactly.
        Identity = "identity",
        /// x sigmoid(x).
        Swish = "swish",
        /// GELU, fitted for `abs_sum`.
        Gelu = "gelu",
        /// GELU, fitted for `sum_abs`.
        GeluOld = "gelu_old",
        /// max(x, 0).
        Relu = "relu",
        /// max(x, 0.01 x).
        LeakyRelu = "leaky_relu",
        /// tanh x.
        Tanh = "tanh",
        /// 1 / (1 + e^-x).
        Sigmoid = "sigmoid",
        /// x GELU(x).
        Geglu = "geglu",
        /// x swish(x).
        Swishglu = "swishglu",
    }
}

/// The rational activations of a KAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rational {
    /// `G`: groups of channels, each with its own denominator; divides the width of every activation.
    pub groups: usize,
    /// Where the denominator takes absolute values.
    pub form: RationalForm,
    /// What the activations before fc1 and before fc2 start as.
    pub init: [RationalSet; 2],
    /// Whether all groups of an activation share one numerator, as in the paper.
    pub shared_numerator: bool,
}

impl Rational {
    /// Numerators of one activation: 1 or `G`.
    #[must_use]
    pub fn numerators(&self) -> usize {
        if self.shared_numerator { 1 } else { self.groups }
    }
}

impl RationalForm {
    /// F(x) and the sign that the absolute values leave behind need only this much: P(x) / Q(x), by Horner's rule.
    #[must_use]
    pub fn evaluate(self, a: &[f64; NUMERATOR], b: &[f64; DENOMINATOR], x: f64) -> f64 {
        let p = a.iter().rev().fold(0.0, |sum, a| sum * x + a);
        let q = match self {
            Self::AbsSum => (b.iter().rev().fold(0.0, |sum, b| sum * x + b) * x).abs(),
            Self::SumAbs => b.iter().rev().fold(0.0, |sum, b| sum * x.abs() + b.abs()) * x.abs(),
        };
        p / (1.0 + q)
    }
}

impl RationalSet {
    /// Whether the set was fitted for a form: within 0.03 of its function on [-3, 3], while the other form is off by
    /// 0.3 and more.
    #[must_use]
    pub fn fits(self, form: RationalForm) -> bool {
        match self {
            Self::Identity | Self::Swish | Self::Tanh | Self::Sigmoid => true,
            Self::Gelu | Self::Geglu | Self::Swishglu => form == RationalForm::AbsSum,
            Self::GeluOld | Self::Relu | Self::LeakyRelu => form == RationalForm::SumAbs,
        }
    }

    /// 1 / E F(z)^2 for a standard normal z: the variance that a matrix behind the activation multiplies by its
    /// fan-in to keep the variance. Of identity, ReLU, GELU and swish as released with KAT (10^6 samples there: 0.3 %
    /// from the integral), of the others by quadrature of the function.
    #[must_use]
    pub fn gain(self) -> f64 {
        match self {
            Self::Identity => 1.0,
            Self::Swish => 2.817_820_527_035_965_3,
            Self::Gelu | Self::GeluOld => 2.356_785_037_992_897_6,
            Self::Relu => 2.0,
            Self::LeakyRelu => 2.0 / (1.0 + 0.01 * 0.01),
            Self::Tanh => 2.536_18,
            Self::Sigmoid => 3.408_56,
            Self::Geglu => 0.715_21,
            Self::Swishglu => 0.840_24,
        }
    }

    /// a0 to a5, released with KAT (`init.json` of rational_kat_cu).
    #[must_use]
    pub fn numerator(self) -> [f64; NUMERATOR] {
        match self {
            Self::Identity => [0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
            Self::Swish => [
                3.054879741161051e-07,
                0.5000007853744493,
                0.24999783422824703,
                0.05326628273219478,
                0.005803034571292244,
                0.0002751961022402342,
            ],
            Self::Gelu => [-0.00153969, 0.51692871, 0.44075827, 0.0972553, -0.00884418, -0.00378675],
            Self::GeluOld => [
                -0.0012423594497499122,
                0.5080497063245629,
                0.41586363182937475,
                0.13022718688035761,
                0.024355900098993424,
                0.00290283948155535,
            ],
            Self::Relu => [
                0.029963801610813613,
                0.6168978366891341,
                2.37534759733888,
                3.0659900472408443,
                1.5246831881677423,
                0.2528070864040542,
            ],
            Self::LeakyRelu => [
                0.029792778657264946,
                0.6183735264987601,
                2.323309062531321,
                3.051936237265109,
                1.4854203263828845,
                0.2510244961111299,
            ],
            Self::Tanh => [
                -1.0804622559204184e-08,
                1.0003008043819048,
                -2.5878199375289335e-08,
                0.09632129918392647,
                3.4775841628196104e-09,
                0.0004255709234726337,
            ],
            Self::Sigmoid => [
                0.4999992534599381,
                0.25002157564685185,
                0.14061924500301096,
                0.049420492431596394,
                0.00876714851885483,
                0.0006442412789159799,
            ],
            Self::Geglu => [0.00079642, -0.00602563, 0.49750578, 0.47691076, 0.15421425, 0.0168486],
            Self::Swishglu => [-0.00111528, -0.00334562, 0.53107663, 0.27851476, 0.06044361, 0.00483468],
        }
    }

    /// b1 to b4, from the same source.
    #[must_use]
    pub fn denominator(self) -> [f64; DENOMINATOR] {
        match self {
            Self::Identity => [0.0; DENOMINATOR],
            Self::Swish => {
                [-4.111554955950634e-06, 0.10652899335007572, -1.2690007399796238e-06, 0.0005502331264140556]
            }
            Self::Gelu => [-0.14171056, -0.06481231, -0.0444695, 0.01283776],
            Self::GeluOld => [-0.06675015696494944, 0.17927646217001553, 0.03746682605496631, 1.6561610853276082e-10],
            Self::Relu => [-1.191550121923625, 4.4080487697236626, 0.9110357113686055, 0.34884977946384615],
            Self::LeakyRelu => [-1.1419548357285474, 4.393159974992486, 0.8714712309957245, 0.34719662339598834],
            Self::Tanh => [-0.0013027181209176277, 0.428349017422072, 1.4524304083061898e-09, 0.010796648111337176],
            Self::Sigmoid => [2.1694506382753683e-09, 0.28122766100417684, 1.0123620714203357e-05, 0.017531988049946],
            Self::Geglu => [-0.12619161, -0.20067464, -0.03005465, 0.0027335],
            Self::Swishglu => [0.14408492, 0.02008671, 0.02944107, -0.00329516],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The function that a set stands for, with erf by the series of its integral.
    fn meant(set: RationalSet, x: f64) -> f64 {
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        let gelu = x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2));
        match set {
            RationalSet::Identity => x,
            RationalSet::Swish => x * sigmoid,
            RationalSet::Gelu | RationalSet::GeluOld => gelu,
            RationalSet::Relu => x.max(0.0),
            RationalSet::LeakyRelu => x.max(0.01 * x),
            RationalSet::Tanh => x.tanh(),
            RationalSet::Sigmoid => sigmoid,
            RationalSet::Geglu => x * gelu,
            RationalSet::Swishglu => x * x * sigmoid,
        }
    }

    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..60 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    fn points() -> impl Iterator<Item = f64> {
        (-3000..=3000).map(|i| f64::from(i) / 1000.0)
    }

    fn largest_error(set: RationalSet, form: RationalForm) -> f64 {
        let error = |x| (form.evaluate(&set.numerator(), &set.denominator(), x) - meant(set, x)).abs();
        points().map(error).fold(0.0, f64::max)
    }

    #[test]
    fn sets_are_close_to_their_functions_in_the_forms_they_were_fitted_for() {
        for &set in RationalSet::ALL {
            for &form in RationalForm::ALL {
                let error = largest_error(set, form);
                assert_eq!(error < 0.0301, set.fits(form), "{} {}: {error}", set.name(), form.name());
                assert!(set.fits(form) || error > 0.3, "{} {}: {error}", set.name(), form.name());
            }
        }
        assert_eq!(largest_error(RationalSet::Identity, RationalForm::AbsSum), 0.0);
        assert!(largest_error(RationalSet::Swish, RationalForm::SumAbs) < 1.3e-6);
    }

    /// The gains against the integral of the square over the normal density (the released ones are Monte Carlo means).
    #[test]
    fn gains_are_those_of_the_functions() {
        for &set in RationalSet::ALL {
            let step = 1e-3;
            let square = |x: f64| meant(set, x).powi(2) * (-0.5 * x * x).exp();
            let points = (-8000..=8000).map(|i| f64::from(i) * step);
            // Beyond 6 the series of erf loses its digits, and the density is 1e-8.
            let mean: f64 =
                points.filter(|x| x.abs() < 6.0).map(square).sum::<f64>() * step / (2.0 * std::f64::consts::PI).sqrt();
            assert!((mean * set.gain() - 1.0).abs() < 0.004, "{}: {}", set.name(), 1.0 / mean);
        }
    }
}
