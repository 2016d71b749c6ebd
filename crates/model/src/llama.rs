//! LLaMA's MLP (Touvron et al. 2023): down(silu(gate x) * up x).

use evenkeel_schedule::{Recorder, ScheduleError, TensorId};

use crate::{
    ModelConfig, ParameterKind,
    layers::{linear, linear_to_stream, swiglu},
    parameters::LayerParameter,
    rational::RationalSet,
    transformer::Block,
};

/// The parameters of layer `layer`'s MLP.
pub(crate) fn mlp_parameters(config: &ModelConfig, layer: usize) -> Vec<LayerParameter> {
    let (c, f) = (config.hidden_size, config.intermediate_size);
    let matrix = |into_stream, gain| ParameterKind::Matrix { layer, into_stream, gain };
    // E (silu(g) u)^2 = E silu(g)^2 for independent g and u of variance one.
    let swiglu = RationalSet::Swish.gain();
    vec![
        ("mlp.gate_proj.weight", vec![f, c], matrix(false, 1.0)),
        ("mlp.up_proj.weight", vec![f, c], matrix(false, 1.0)),
        ("mlp.down_proj.weight", vec![c, f], matrix(true, swiglu)),
    ]
}

/// Records the MLP of x (R, C): y (R, C).
pub(crate) fn mlp(r: &mut Recorder, block: &Block, x: TensorId) -> Result<TensorId, ScheduleError> {
    let gate = block.weight(r, "mlp.gate_proj")?;
    let gate = linear(r, "gate", x, gate, "F")?;
    let up = block.weight(r, "mlp.up_proj")?;
    let up = linear(r, "up", x, up, "F")?;
    let y = swiglu(r, gate, up)?;
    let w = block.weight(r, "mlp.down_proj")?;
    linear_to_stream(r, "down", y, w)
}
