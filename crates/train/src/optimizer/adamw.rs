//! AdamW (Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization"), one dispatch per run of parameters.

use evenkeel_schedule::{Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::adamw;

use crate::settings::OptimizerSettings;

/// Records the update. The moments have PyTorch's names.
pub(super) fn record(r: &mut Recorder, settings: &OptimizerSettings, state: TensorId) -> Result<(), ScheduleError> {
    let (weights, gradients) = (r.parameter_arenas(), r.gradient_arenas());
    let (first, second) = (r.moments("exp_avg")?, r.moments("exp_avg_sq")?);
    for run in r.parameter_runs() {
        let decay = if run.decayed { settings.weight_decay } else { 0.0 };
        let params = Params::dims([("N", run.len)])
            .with_scalar("beta2", settings.beta2 as f32)
            .with_scalar("one_minus_beta1", (1.0 - settings.beta1) as f32)
            .with_scalar("one_minus_beta2", (1.0 - settings.beta2) as f32)
            .with_scalar("eps", settings.eps as f32)
            .with_scalar("weight_decay", decay as f32);
        let operands = [run.of(&weights), run.of(&first), run.of(&second), run.of(&gradients), state.into()];
        r.run(&adamw::CARD, params, &operands)?;
    }
    Ok(())
}
