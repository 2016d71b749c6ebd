//! KAT's MLP (Yang & Wang 2024, "Kolmogorov-Arnold Transformer"): fc2(F2(fc1(F1(x)))), each group-rational activation
//! before its linear. Here without biases and dropout.

use evenkeel_schedule::{Recorder, ScheduleError, TensorId};

use crate::{
    ModelConfig, ParameterKind,
    layers::{RationalTensors, linear, linear_to_stream, rational},
    parameters::LayerParameter,
    rational::{DENOMINATOR, NUMERATOR, Rational},
    transformer::Block,
};

/// The parameters of layer `layer`'s MLP.
pub(crate) fn mlp_parameters(config: &ModelConfig, rational: &Rational, layer: usize) -> Vec<LayerParameter> {
    let (c, f) = (config.hidden_size, config.intermediate_size);
    let numerator = vec![rational.numerators(), NUMERATOR];
    let denominator = vec![rational.groups, DENOMINATOR];
    let [first, second] = rational.init;
    let matrix = |into_stream, gain| ParameterKind::Matrix { layer, into_stream, gain };
    vec![
        ("mlp.act1.weight_numerator", numerator.clone(), ParameterKind::Numerator(first)),
        ("mlp.act1.weight_denominator", denominator.clone(), ParameterKind::Denominator(first)),
        ("mlp.fc1.weight", vec![f, c], matrix(false, first.gain())),
        ("mlp.act2.weight_numerator", numerator, ParameterKind::Numerator(second)),
        ("mlp.act2.weight_denominator", denominator, ParameterKind::Denominator(second)),
        ("mlp.fc2.weight", vec![c, f], matrix(true, second.gain())),
    ]
}

/// Records the MLP of x (R, C): y (R, C).
pub(crate) fn mlp(r: &mut Recorder, block: &Block, config: &Rational, x: TensorId) -> Result<TensorId, ScheduleError> {
    let activation = |r: &mut Recorder, name: &str, x, columns| {
        let coefficients = RationalTensors {
            numerator: block.parameter(r, &format!("mlp.{name}.weight_numerator"))?,
            denominator: block.parameter(r, &format!("mlp.{name}.weight_denominator"))?,
        };
        r.scope(name, |r| rational(r, x, coefficients, config.form, columns))
    };
    let x = activation(r, "act1", x, "C")?;
    let w = block.weight(r, "mlp.fc1")?;
    let hidden = linear(r, "fc1", x, w, "F")?;
    let hidden = activation(r, "act2", hidden, "F")?;
    let w = block.weight(r, "mlp.fc2")?;
    linear_to_stream(r, "fc2", hidden, w)
}
