//! One training step after another: host writes a batch, the device does the rest, one small record comes back.

use std::time::{Duration, Instant};

use evenkeel_data::{Batches, by_token};
use evenkeel_schedule::Phase;
use evenkeel_shaders::step_metrics::slots;

use crate::{Executor, Program, RecordedTraining, TrainError, instruments::Measurement, optimizer::UpdateTensors};

/// What the device reports of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// From 1.
    pub step: u64,
    /// Mean loss of the step's targets before the update, in nats.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Whether the update was applied: the norm is finite.
    pub applied: bool,
    /// Updates applied so far.
    pub applied_steps: u64,
    /// Whether the data began again from its start inside this step.
    pub wrapped: bool,
    /// Matrices that TVR rescaled, where it checked them.
    pub tvr_rescaled: Option<u64>,
    /// What the instruments saw, where they were asked for.
    pub measurement: Option<Measurement>,
    /// The host's time for making and writing the step's batches.
    pub upload: Duration,
}

/// Drives an [`Executor`] through training steps.
#[derive(Debug)]
pub struct Trainer {
    training: RecordedTraining,
    batches: Batches,
    accumulation: u32,
    host: HostBatch,
}

/// The host's side of one micro-batch.
#[derive(Debug)]
struct HostBatch {
    tokens: Vec<u32>,
    targets: Vec<u32>,
    order: Vec<u32>,
    starts: Vec<u32>,
}

impl Trainer {
    /// A trainer for a program that was recorded with training.
    ///
    /// # Errors
    /// A program without it.
    pub fn new(program: &Program, batches: Batches, accumulation: u32) -> Result<Self, TrainError> {
        let Some(training) = program.training.clone() else {
            return Err(TrainError::Program { part: "training" });
        };
        let rows = program.schedule.tensor(training.tensors.tokens.ids).len();
        let host = HostBatch {
            tokens: vec![0; rows],
            targets: vec![0; rows],
            order: vec![0; rows],
            starts: vec![0; program.config.vocab_size + 1],
        };
        Ok(Self { training, batches, accumulation, host })
    }

    /// Tensors of the update phase.
    pub fn update(&self) -> &UpdateTensors {
        &self.training.update
    }

    /// Tokens of one step.
    pub fn tokens_per_step(&self) -> u64 {
        self.host.tokens.len() as u64 * u64::from(self.accumulation)
    }

    /// Runs step `step`, from 1, with this learning rate, and measures it if the program has instruments for that.
    ///
    /// # Errors
    /// Data that cannot be read, a device that is lost or did not finish the step.
    pub async fn step(
        &mut self,
        executor: &mut Executor,
        step: u64,
        lr: f64,
        measured: bool,
    ) -> Result<StepRecord, TrainError> {
        self.write_step(executor, step, lr)?;
        executor.run(Phase::Begin).await?;
        let (mut wrapped, mut upload) = (false, Duration::ZERO);
        for micro in 0..self.accumulation {
            let start = Instant::now();
            wrapped |= self.write_batch(executor, step, micro)?;
            upload += start.elapsed();
            executor.run(Phase::ForwardBackward).await?;
        }
        let instruments = self.training.instruments.as_ref().filter(|_| measured);
        if instruments.is_some() {
            executor.run(Phase::Snapshot).await?;
        }
        executor.run(Phase::Update).await?;
        let measurement = match instruments {
            Some(instruments) => Some(instruments.measure(executor).await?),
            None => None,
        };
        let tvr_rescaled = match self.training.tvr.as_ref().filter(|tvr| tvr.due(step)) {
            Some(tvr) => Some(tvr.apply(executor).await?),
            None => None,
        };
        let metrics = executor.read(self.training.update.metrics).await?;
        if metrics[slots::STEP] != step as f32 {
            return Err(TrainError::Incomplete { step, got: metrics[slots::STEP] });
        }
        Ok(StepRecord {
            step,
            loss: f64::from(metrics[slots::LOSS]),
            grad_norm: f64::from(metrics[slots::NORM]),
            applied: metrics[slots::FINITE] > 0.0,
            applied_steps: metrics[slots::APPLIED] as u64,
            wrapped,
            tvr_rescaled,
            measurement,
            upload,
        })
    }

    /// Writes what a step (from 1) has of its own besides its micro-batches.
    ///
    /// # Errors
    /// A device that is lost.
    pub(crate) fn write_step(&self, executor: &mut Executor, step: u64, lr: f64) -> Result<(), TrainError> {
        executor.write(self.training.update.step, &[lr as f32, step as f32])
    }

    /// Writes a micro-batch of a step (from 1) and says whether the data wrapped.
    ///
    /// # Errors
    /// Data that cannot be read, a device that is lost.
    pub(crate) fn write_batch(&mut self, executor: &mut Executor, step: u64, micro: u32) -> Result<bool, TrainError> {
        let HostBatch { tokens, targets, order, starts } = &mut self.host;
        let wrapped = self.batches.fill(step - 1, micro, tokens, targets)?.0;
        executor.write(self.training.tensors.tokens.ids, tokens)?;
        executor.write(self.training.tensors.loss.targets, targets)?;
        if let Some((rows_by_token, token_starts)) = self.training.tensors.tokens.by_token {
            let vocabulary = starts.len() - 1;
            by_token(tokens, vocabulary, order, starts)?;
            executor.write(rows_by_token, order)?;
            executor.write(token_starts, &starts[..vocabulary])?;
        }
        Ok(wrapped)
    }

    /// Runs the forward and backward of a step again, one kernel at a time, and names the first tensor that is not
    /// finite with the kernel that wrote it. The parameters are those before the step: an update that is not finite
    /// is not applied.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub async fn first_non_finite(&mut self, executor: &mut Executor, step: u64) -> Result<Option<String>, TrainError> {
        let schedule = executor.schedule().clone();
        for spec in schedule.tensors().filter(|(_, tensor)| tensor.role == evenkeel_schedule::Role::Parameter) {
            let (id, tensor) = spec;
            if tensor.within.is_some() && executor.read(id).await?.iter().any(|value| !value.is_finite()) {
                return Ok(Some(format!("parameter {}", tensor.name)));
            }
        }
        executor.run(Phase::Begin).await?;
        for micro in 0..self.accumulation {
            self.write_batch(executor, step, micro)?;
            for index in schedule.phase(Phase::ForwardBackward) {
                executor.run_step(index).await?;
                if let Some(tensor) = non_finite_output(executor, index).await? {
                    return Ok(Some(tensor));
                }
            }
        }
        Ok(None)
    }
}

async fn non_finite_output(executor: &mut Executor, index: usize) -> Result<Option<String>, TrainError> {
    let schedule = executor.schedule().clone();
    let step = &schedule.steps()[index];
    for (access, view) in step.accesses() {
        if access == evenkeel_shaders::Access::Read {
            continue;
        }
        let values = executor.read(view.tensor).await?;
        let written = &values[view.offset..view.offset + view.len];
        if written.iter().any(|value| !value.is_finite()) {
            let tensor = &schedule.tensor(view.tensor).name;
            return Ok(Some(format!("{tensor}, written by {} in {}", step.card.name, step.scope)));
        }
    }
    Ok(None)
}
