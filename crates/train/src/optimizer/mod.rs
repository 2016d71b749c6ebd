//! The update phase: gradient norm, clip, update, metrics. What all optimizers share is here; each has a file.
//!
//! Nothing is read back in between: the device itself decides whether a step is applied (its gradient norm is finite)
//! and counts the applied ones.

mod adamw;
mod novograd;

use evenkeel_model::ParameterSpec;
use evenkeel_schedule::{DType, Operand, Params, Phase, Recorder, Role, ScheduleError, TensorId};
use evenkeel_shaders::{gradient_clip, squared_norm, step_metrics};

use crate::{
    names::any_names,
    segments::Segments,
    settings::{OptimizerKind, OptimizerSettings, Precision},
};

/// Partial sums per gradient arena.
const PARTIALS: usize = 256;
/// First loss scale, and steps in a row until it doubles: those of `torch.amp.GradScaler`.
const INITIAL_LOSS_SCALE: f32 = 65_536.0;
const GROWTH_INTERVAL: usize = 2000;

/// Tensors of the update phase that the host writes or reads.
#[derive(Clone, Debug)]
pub struct UpdateTensors {
    /// Learning rate and step number (2), written before each step.
    pub step: TensorId,
    /// What the optimizer knows of the steps before (8); part of a checkpoint.
    pub state: TensorId,
    /// What the gradients are multiplied by.
    pub loss_scale: LossScale,
    /// The record of the step (8), by `step_metrics::slots`.
    pub metrics: TensorId,
    /// Tables of the tensors that are updated each by a rate of its own, written once.
    pub(crate) segments: Vec<Segments>,
}

/// What the loss is multiplied by, so that small gradients do not vanish in half precision; on the device.
#[derive(Clone, Copy, Debug)]
pub struct LossScale {
    /// The scale, and how many steps in a row it was not too large (2).
    pub tensor: TensorId,
    /// Whether it moves: it is part of a checkpoint then.
    pub dynamic: bool,
}

impl LossScale {
    /// Of a run in this precision.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn declare(r: &mut Recorder, precision: Precision) -> Result<Self, ScheduleError> {
        let tensor = r.new_tensor("optimizer.loss_scale", Role::State, DType::F32, &[("N", 2)])?;
        Ok(Self { tensor, dynamic: precision == Precision::Mixed })
    }

    /// What it begins with.
    pub fn initial(&self) -> [f32; 2] {
        [if self.dynamic { INITIAL_LOSS_SCALE } else { 1.0 }, 0.0]
    }
}

/// Whether a parameter has weight decay.
pub(crate) fn is_decayed(settings: &OptimizerSettings, spec: &ParameterSpec) -> bool {
    spec.is_matrix() && !any_names(&settings.no_decay, &spec.name)
}

/// Records [`Phase::Update`] of those of the `parameters` that are trained; `loss` (1) is the loss to report.
///
/// # Errors
/// Those of the recorder.
pub fn record_update(
    r: &mut Recorder,
    settings: &OptimizerSettings,
    parameters: &[ParameterSpec],
    loss: TensorId,
    loss_scale: LossScale,
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
        let growth_interval = if loss_scale.dynamic { GROWTH_INTERVAL } else { 0 };
        let params = Params::dims([("S", arenas.len() * PARTIALS), ("growth_interval", growth_interval)])
            .with_scalar("max_norm", settings.grad_clip as f32)
            .with_scalar("one_minus_beta1", (1.0 - settings.beta1) as f32)
            .with_scalar("one_minus_beta2", (1.0 - settings.beta2) as f32);
        r.run(&gradient_clip::CARD, params, &[partial, step, loss_scale.tensor, state].map(Into::into))
    })?;
    let segments = match settings.kind {
        OptimizerKind::Adamw => r.scope("adamw", |r| adamw::record(r, settings, state)).map(|()| Vec::new())?,
        OptimizerKind::Novograd => r.scope("novograd", |r| novograd::record(r, settings, parameters, state))?,
    };
    r.scope("metrics", |r| {
        r.run(&step_metrics::CARD, Params::new(), &[loss.into(), step.into(), state.into(), metrics.into()])
    })?;
    Ok(UpdateTensors { step, state, loss_scale, metrics, segments })
}
