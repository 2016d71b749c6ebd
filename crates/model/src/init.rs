//! Initial weights.
//!
//! Element `i` of a tensor is a pure function of (seed, tensor name, i), the same on every platform: the random bits
//! are ChaCha8's (D. J. Bernstein, 2008), and the logarithm and the rotation of the Box-Muller transform are computed
//! here from IEEE additions, multiplications, divisions and square roots alone, because the functions of the
//! platform's mathematics library differ in their last bits.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::choices;
use crate::parameters::{ParameterKind, ParameterSpec};

choices! {
    /// How the matrices inside the layers start: normal numbers of mean zero and this standard deviation, `l` being a
    /// matrix's layer from 1. Embeddings and head have `std` under every scheme, norm weights are one, rational
    /// coefficients those of their set.
    InitScheme {
        /// `std`.
        Normal = "normal",
        /// `std / sqrt(l)`: layer-index rescaling (LIR, arXiv 2503.17500).
        Lir = "lir",
        /// `std`, but `std / sqrt(2 L)` where a matrix writes into the residual stream (GPT-2).
        Gpt2Residual = "gpt2_residual",
        /// `sqrt(gain / fan-in)`: each matrix keeps the variance of what enters the function in front of it (KAT).
        VariancePreserving = "variance_preserving",
        /// `sqrt(gain / fan-in / l)`: both at once; of no paper.
        LirVariancePreserving = "lir_variance_preserving",
    }
}

/// Initial weights: a scheme and its standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Init {
    /// Of the matrices inside the layers.
    pub scheme: InitScheme,
    /// Finite.
    pub std: f64,
}

impl Init {
    /// The standard deviation of a weight matrix in a model of `layers` layers.
    fn std_of(&self, spec: &ParameterSpec, layers: usize) -> f64 {
        let ParameterKind::Matrix { layer, into_stream, gain } = spec.kind else { return self.std };
        let fan_in = spec.shape.last().copied().unwrap_or(1) as f64;
        let index = (layer + 1) as f64;
        match self.scheme {
            InitScheme::Normal => self.std,
            InitScheme::Lir => self.std / index.sqrt(),
            InitScheme::Gpt2Residual if into_stream => self.std / (2.0 * layers as f64).sqrt(),
            InitScheme::Gpt2Residual => self.std,
            InitScheme::VariancePreserving => (gain / fan_in).sqrt(),
            InitScheme::LirVariancePreserving => (gain / fan_in / index).sqrt(),
        }
    }
}

/// The initial elements of `spec`, row by row, in a model of `layers` layers.
///
/// The generator's key is the seed and a constant that separates it from other uses of the seed; its stream is a hash
/// of the tensor's name, so that adding, removing or reordering tensors changes no other tensor. A scheme only scales
/// the same unit normal numbers.
#[must_use]
pub fn initialise(spec: &ParameterSpec, init: Init, layers: usize, seed: u64) -> Vec<f32> {
    let repeated = |row: &[f64]| row.iter().map(|&x| x as f32).cycle().take(spec.elements()).collect();
    match spec.kind {
        ParameterKind::Norm => vec![1.0; spec.elements()],
        ParameterKind::Numerator(set) => repeated(&set.numerator()),
        ParameterKind::Denominator(set) => repeated(&set.denominator()),
        ParameterKind::Embedding | ParameterKind::Head | ParameterKind::Matrix { .. } => {
            normal(&spec.name, spec.elements(), init.std_of(spec, layers), seed)
        }
    }
}

/// Elements `2p` and `2p + 1` come from the words `4p..4p + 4` of the stream.
fn normal(name: &str, elements: usize, std: f64, seed: u64) -> Vec<f32> {
    let mut key = *b"<-seed->evenkeel initial weights";
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut bits = ChaCha8Rng::from_seed(key);
    bits.set_stream(fnv1a(name.as_bytes()));
    let mut values = Vec::with_capacity(elements + 1);
    while values.len() < elements {
        let pair = normal_pair(bits.next_u64(), bits.next_u64());
        values.extend(pair.map(|z| (z * std) as f32));
    }
    values.truncate(elements);
    values
}

/// Two independent standard normal numbers from 128 random bits, by the transform of Box and Muller (1958): a radius
/// `sqrt(-2 ln u)` with `u` of 53 bits in (0, 1], and a direction: two bits choose the quarter turn, 53 the angle in
/// [-pi/4, pi/4) from it.
fn normal_pair(radius_bits: u64, angle_bits: u64) -> [f64; 2] {
    const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
    let u = ((radius_bits >> 11) + 1) as f64 * UNIT;
    let radius = (-2.0 * ln(u)).sqrt();
    let fraction = ((angle_bits >> 2) & ((1 << 53) - 1)) as f64 * UNIT - 0.5;
    let (sin, cos) = sin_cos(fraction * std::f64::consts::FRAC_PI_2);
    let (x, y) = match angle_bits >> 62 {
        0 => (cos, sin),
        1 => (-sin, cos),
        2 => (-cos, -sin),
        _ => (sin, -cos),
    };
    [radius * x, radius * y]
}

/// The natural logarithm of a positive normal number: `ln(m 2^e) = e ln 2 + 2 atanh((m - 1) / (m + 1))` with `m` in
/// [1/sqrt 2, sqrt 2], where the first term left out of the series is below 2^-60 of the sum.
fn ln(x: f64) -> f64 {
    use std::f64::consts::{LN_2, SQRT_2};
    const MANTISSA: u64 = (1 << 52) - 1;
    const BIAS: u64 = 1023;
    let mut exponent = (x.to_bits() >> 52) as f64 - BIAS as f64;
    let mut m = f64::from_bits(x.to_bits() & MANTISSA | BIAS << 52);
    if m > SQRT_2 {
        m *= 0.5;
        exponent += 1.0;
    }
    let s = (m - 1.0) / (m + 1.0);
    let mut series = 0.0;
    for k in (0..11).rev() {
        series = series * s * s + 1.0 / f64::from(2 * k + 1);
    }
    exponent * LN_2 + 2.0 * s * series
}

/// Sine and cosine of an angle in [-pi/4, pi/4], by Taylor series whose first terms left out are below 2^-53.
fn sin_cos(angle: f64) -> (f64, f64) {
    let square = angle * angle;
    let (mut sin, mut cos) = (1.0, 1.0);
    for k in (1..9).rev() {
        let even = f64::from(2 * k);
        sin = 1.0 - sin * square * (1.0 / (even * (even + 1.0)));
        cos = 1.0 - cos * square * (1.0 / (even * (even - 1.0)));
    }
    (angle * sin, cos)
}

/// The 64-bit FNV-1a hash (Fowler, Noll, Vo).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Arch, ModelConfig,
        rational::{RationalForm, RationalSet},
    };

    const STD: f64 = 0.02;
    const NORMAL: Init = Init { scheme: InitScheme::Normal, std: STD };

    fn matrix(name: &str, rows: usize, columns: usize) -> ParameterSpec {
        let kind = ParameterKind::Matrix { layer: 0, into_stream: false, gain: 1.0 };
        ParameterSpec { name: name.to_owned(), shape: vec![rows, columns], kind }
    }

    fn draw(name: &str, elements: usize, seed: u64) -> Vec<f32> {
        let spec = matrix(name, 1, elements);
        initialise(&spec, NORMAL, 1, seed)
    }

    /// Mean of `values` to the power.
    fn moment(values: &[f64], power: i32) -> f64 {
        values.iter().map(|v| v.powi(power)).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn moments_are_those_of_the_normal_distribution() {
        for (seed, name) in [(0, "a"), (1, "a"), (0, "model.layers.3.mlp.up_proj.weight")] {
            let z: Vec<f64> = draw(name, 400_001, seed).iter().map(|&w| f64::from(w) / STD).collect();
            let n = z.len() as f64;
            // Four standard deviations of each estimator: Var z^2 = 2, Var z^3 = 15, Var z^4 = 96.
            for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
                let error = moment(&z, power) - expected;
                assert!(error.abs() < 4.0 * f64::sqrt(variance / n), "power {power}: {error}");
            }
            // The share beyond two standard deviations is erfc(sqrt 2).
            let p = 0.045_500_263_896;
            let share = z.iter().filter(|z| z.abs() > 2.0).count() as f64 / n;
            assert!((share - p).abs() < 4.0 * f64::sqrt(p * (1.0 - p) / n), "{share}");
            // Neighbours and halves of a pair are independent: Var (z z') = 1.
            for lag in [1, 2, 3] {
                let products: Vec<f64> = z.windows(lag + 1).map(|w| w[0] * w[lag]).collect();
                assert!(moment(&products, 1).abs() < 4.0 / n.sqrt(), "lag {lag}");
            }
        }
    }

    #[test]
    fn tensors_and_seeds_are_independent() {
        let n = 100_000;
        let a = draw("a", n, 0);
        for other in [draw("b", n, 0), draw("a", n, 1)] {
            let products: Vec<f64> =
                a.iter().zip(&other).map(|(&x, &y)| f64::from(x) * f64::from(y) / (STD * STD)).collect();
            assert!(moment(&products, 1).abs() < 4.0 / f64::sqrt(n as f64));
        }
    }

    #[test]
    fn an_element_depends_on_seed_name_and_index_alone() {
        let long = draw("a", 1001, 7);
        for elements in [0, 1, 2, 17, 1000] {
            assert_eq!(draw("a", elements, 7), long[..elements]);
        }
        let reshaped = initialise(&matrix("a", 7, 143), NORMAL, 1, 7);
        assert_eq!(reshaped, long);
    }

    /// A LLaMA of four layers.
    fn parameters() -> (Vec<ParameterSpec>, usize) {
        let config = ModelConfig {
            arch: Arch::Llama,
            vocab_size: 512,
            hidden_size: 128,
            intermediate_size: 352,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 32,
            max_position_embeddings: 16,
            rms_norm_eps: 1e-6,
            rope_theta: 1e4,
            tie_word_embeddings: false,
        };
        (config.parameters(), config.num_hidden_layers)
    }

    /// Mean and standard deviation of every matrix under `scheme` against the law's, within four standard errors.
    fn check_law(scheme: InitScheme, std: f64, law: impl Fn(&ParameterSpec, f64) -> f64) {
        let (specs, layers) = parameters();
        for spec in specs.iter().filter(|spec| spec.is_matrix()) {
            let values: Vec<f64> =
                initialise(spec, Init { scheme, std }, layers, 5).into_iter().map(f64::from).collect();
            let expected = spec.layer().map_or(std, |layer| law(spec, (layer + 1) as f64));
            let n = values.len() as f64;
            let (mean, got) = (moment(&values, 1), moment(&values, 2).sqrt());
            assert!(mean.abs() < 4.0 * expected / n.sqrt(), "{} {}: mean {mean}", scheme.name(), spec.name);
            let error = (got - expected).abs();
            assert!(error < 4.0 * expected / (2.0 * n).sqrt(), "{} {}: std {got}", scheme.name(), spec.name);
        }
    }

    #[test]
    fn schemes_follow_their_laws() {
        check_law(InitScheme::Normal, 0.02, |_, _| 0.02);
        check_law(InitScheme::Lir, 0.006, |_, l| 0.006 / l.sqrt());
        check_law(InitScheme::Gpt2Residual, 0.02, |spec, _| {
            let residual = spec.name.contains("o_proj") || spec.name.contains("down_proj");
            if residual { 0.02 / 8_f64.sqrt() } else { 0.02 }
        });
        // E swish(z)^2 = .355775 for a standard normal z.
        let variance_preserving = |spec: &ParameterSpec| {
            let gain = if spec.name.contains("down_proj") { 1.0 / 0.355_775 } else { 1.0 };
            (gain / spec.shape[1] as f64).sqrt()
        };
        check_law(InitScheme::VariancePreserving, 0.02, |spec, _| variance_preserving(spec));
        check_law(InitScheme::LirVariancePreserving, 0.02, |spec, l| variance_preserving(spec) / l.sqrt());
    }

    #[test]
    fn a_scheme_scales_the_same_numbers() {
        let (specs, layers) = parameters();
        for spec in &specs {
            let draw = |scheme| initialise(spec, Init { scheme, std: 0.02 }, layers, 9);
            let factor = spec.layer().map_or(1.0, |layer| 1.0 / ((layer + 1) as f64).sqrt());
            for (lir, normal) in draw(InitScheme::Lir).into_iter().zip(draw(InitScheme::Normal)) {
                let expected = f64::from(normal) * factor;
                // Both are rounded to f32 once.
                assert!((f64::from(lir) - expected).abs() <= 2.4e-7 * expected.abs() / 2.0, "{}", spec.name);
            }
        }
    }

    /// x of variance one through `rows` of a matrix: the variance of what comes out.
    fn variance_behind(gain: f64, function: impl Fn(f64) -> f64) -> f64 {
        let (rows, columns, samples) = (256, 256, 200);
        let spec = ParameterSpec {
            kind: ParameterKind::Matrix { layer: 0, into_stream: false, gain },
            ..matrix("fc", rows, columns)
        };
        let w = initialise(&spec, Init { scheme: InitScheme::VariancePreserving, std: 0.02 }, 1, 3);
        let x: Vec<f64> = draw("x", columns * samples, 11).iter().map(|&x| function(f64::from(x) / STD)).collect();
        let outputs = x
            .chunks(columns)
            .flat_map(|x| w.chunks(columns).map(move |w| w.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>()));
        outputs.map(|y| y * y).sum::<f64>() / (rows * samples) as f64
    }

    #[test]
    fn variance_preserving_preserves_the_variance() {
        assert!((variance_behind(1.0, |x| x) - 1.0).abs() < 0.02);
        let swish = RationalSet::Swish;
        let rational = |x| RationalForm::AbsSum.evaluate(&swish.numerator(), &swish.denominator(), x);
        assert!((variance_behind(swish.gain(), rational) - 1.0).abs() < 0.03);
    }

    #[test]
    fn rationals_start_as_their_sets() {
        let of = |kind, shape: [usize; 2]| {
            let spec = ParameterSpec { name: "a".to_owned(), shape: shape.to_vec(), kind };
            initialise(&spec, NORMAL, 1, 3)
        };
        let set = RationalSet::Swish;
        let rounded = |row: &[f64]| row.iter().map(|&x| x as f32).collect::<Vec<_>>();
        assert_eq!(of(ParameterKind::Numerator(set), [1, 6]), rounded(&set.numerator()));
        assert_eq!(of(ParameterKind::Denominator(set), [3, 4]), rounded(&set.denominator()).repeat(3));
    }

    #[test]
    fn norms_start_at_one() {
        let mut spec = matrix("model.norm.weight", 1, 5);
        spec.kind = ParameterKind::Norm;
        assert_eq!(initialise(&spec, NORMAL, 1, 3), [1.0; 5]);
    }

    #[test]
    fn fnv1a_matches_its_published_values() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn own_functions_agree_with_the_platform() {
        let unit = |i: u64| (i as f64 + 0.5) / 100_000.0;
        for i in 0..100_000 {
            for x in [unit(i), unit(i) * f64::EPSILON, 1.0 - unit(i) * 1e-9] {
                let expected = x.ln();
                assert!((ln(x) - expected).abs() <= 4.0 * f64::EPSILON * expected.abs(), "ln {x}");
            }
            let angle = (unit(i) - 0.5) * std::f64::consts::FRAC_PI_2;
            let (sin, cos) = sin_cos(angle);
            assert!((sin - angle.sin()).abs() <= 4.0 * f64::EPSILON * angle.abs(), "sin {angle}");
            assert!((cos - angle.cos()).abs() <= 4.0 * f64::EPSILON, "cos {angle}");
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn pairs_have_the_radius_of_box_and_muller() {
        for radius_bits in [0, 1 << 11, u64::MAX, 0x0123_4567_89ab_cdef] {
            for angle_bits in [0, 1 << 62, u64::MAX, 0xfedc_ba98_7654_3210] {
                let [x, y] = normal_pair(radius_bits, angle_bits);
                let u = ((radius_bits >> 11) + 1) as f64 / 2_f64.powi(53);
                let expected = -2.0 * u.ln();
                let error = (x * x + y * y - expected).abs();
                assert!(error <= 16.0 * f64::EPSILON * expected, "{radius_bits:x} {angle_bits:x}");
            }
        }
    }
}
