//! The update phase: gradient norm, clip, update, metrics. What all optimizers share is here; each has a file.
//!
//! Nothing is read back in between: the device itself decides whether a step is applied (its gradient norm is finite)
//! and counts the applied ones.

mod adamw;

use evenkeel_schedule::{DType, Operand, Params, Phase, Recorder, Role, ScheduleError, TensorId};
use evenkeel_shaders::{gradient_clip, squared_norm, step_metrics};

use crate::settings::{OptimizerKind, OptimizerSettings};

/// Partial sums per gradient arena.
const PARTIALS: usize = 256;

/// Tensors of the update phase that the host writes or reads.
#[derive(Clone, Debug)]
pub struct UpdateTensors {
    /// Learning rate and step number (2), written before each step.
    pub step: TensorId,
    /// What the optimizer knows of the steps before (8); part of a checkpoint.
    pub state: TensorId,
    /// The record of the step (8), by `step_metrics::slots`.
    pub metrics: TensorId,
    /// Suffixes of the moments' names: `PARAMETER.SUFFIX`.
    pub moments: &'static [&'static str],
}

/// Records [`Phase::Update`]; `loss` (1) is the loss to report.
///
/// # Errors
/// Those of the recorder.
pub fn record_update(
    r: &mut Recorder,
    settings: &OptimizerSettings,
    loss: TensorId,
) -> Result<UpdateTensors, ScheduleError> {
    let step = r.new_tensor("step", Role::Batch, DType::F32, &[("N", 2)])?;
    let state = r.new_tensor("optimizer.state", Role::State, DType::F32, &[("N", 8)])?;
    let metrics = r.new_tensor("metrics", Role::State, DType::F32, &[("N", 8)])?;
    r.begin_phase(Phase::Update)?;
    r.scope("clip", |r| {
        let arenas = r.gradient_arenas();
        let partial = r.scratch("partial", &[("S", arenas.len() * PARTIALS)])?;
        for (i, &arena) in arenas.iter().enumerate() {
            let params = Params::dims([("N", r.tensor(arena).len()), ("S", PARTIALS)]);
            let part = Operand::Part { tensor: partial, offset: i * PARTIALS, len: PARTIALS };
            r.run(&squared_norm::CARD, params, &[arena.into(), part])?;
        }
        let params = Params::dims([("S", arenas.len() * PARTIALS)])
            .with_scalar("max_norm", settings.grad_clip as f32)
            .with_scalar("one_minus_beta1", (1.0 - settings.beta1) as f32)
            .with_scalar("one_minus_beta2", (1.0 - settings.beta2) as f32);
        r.run(&gradient_clip::CARD, params, &[partial.into(), step.into(), state.into()])
    })?;
    let moments = match settings.kind {
        OptimizerKind::Adamw => r.scope("adamw", |r| adamw::record(r, settings, state))?,
    };
    r.scope("metrics", |r| {
        r.run(&step_metrics::CARD, Params::new(), &[loss.into(), step.into(), state.into(), metrics.into()])
    })?;
    Ok(UpdateTensors { step, state, metrics, moments })
}
