//! Training steps in their order: the host writes a batch and submits, the device does the rest, and one small record
//! comes back while the next step is on its way.
//!
//! Invariant: the update of a step is submitted only after the record of the step before it was taken. So the step
//! whose loss turns out not to be finite is the last that touched the parameters, although the forward and backward of
//! the next one may be on the device.

use std::{collections::VecDeque, time::Duration};

use evenkeel_data::{Batches, by_token};
use evenkeel_gpu::{Progress, now};
use evenkeel_schedule::Phase;
use evenkeel_shaders::step_metrics::slots;

use crate::{
    Executor, Late, Program, RecordedTraining, TrainError, instruments::Measurement, optimizer::UpdateTensors,
};

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
    /// What the loss was multiplied by, where that moves.
    pub loss_scale: Option<f64>,
    /// Whether the data began again from its start inside this step.
    pub wrapped: bool,
    /// Matrices that TVR rescaled, where it checked them.
    pub tvr_rescaled: Option<u64>,
    /// What the instruments saw, where they were asked for.
    pub measurement: Option<Measurement>,
    /// From the end of the step before, or from this one's beginning where that was later, to its end.
    pub time: Duration,
    /// What the host worked since the record before, waiting not counted.
    pub host: HostTime,
}

/// The host's share of a step. The time that the CPU executor computes is none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostTime {
    /// For making and writing its batches.
    pub batches: Duration,
    /// For recording its kernels, and what else there is but submits.
    pub record: Duration,
    /// Inside of submits. A driver may compute there, as lavapipe does.
    pub submit: Duration,
}

/// Drives an [`Executor`] through training steps: [`Trainer::step`] one at a time, or [`Trainer::begin`] and
/// [`Trainer::record`], with a step begun ahead.
#[derive(Debug)]
pub struct Trainer {
    training: RecordedTraining,
    batches: Batches,
    accumulation: u32,
    host_batch: HostBatch,
    /// Steps that have begun and whose record was not taken, in order.
    running: VecDeque<Running>,
    /// When the last step ended whose record was taken.
    ended: Duration,
    host: HostTime,
}

/// The host's side of one micro-batch.
#[derive(Debug)]
struct HostBatch {
    tokens: Vec<u32>,
    targets: Vec<u32>,
    order: Vec<u32>,
    starts: Vec<u32>,
}

impl StepRecord {
    /// Whether the update was skipped for nothing but a loss scale that was too large; it is smaller in the next step.
    pub fn only_scaled_too_far(&self) -> bool {
        !self.applied && self.loss_scale.is_some_and(|scale| scale > 1.0)
    }
}

/// A step on its way.
#[derive(Debug)]
struct Running {
    step: u64,
    lr: f64,
    measured: bool,
    next: Part,
    began: Duration,
    wrapped: bool,
    metrics: Option<Late>,
    statistics: Vec<Late>,
    rescaled: Option<Late>,
}

/// What of a step is to be started next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Begin,
    MicroBatch(u32),
    Snapshot,
    Update,
    Measure,
    Rescale,
    Record,
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
        let host_batch = HostBatch {
            tokens: vec![0; rows],
            targets: vec![0; rows],
            order: vec![0; rows],
            starts: vec![0; program.config.vocab_size + 1],
        };
        let (running, ended, host) = (VecDeque::new(), Duration::ZERO, HostTime::default());
        Ok(Self { training, batches, accumulation, host_batch, running, ended, host })
    }

    /// Tensors of the update phase.
    pub fn update(&self) -> &UpdateTensors {
        &self.training.update
    }

    /// Tokens of one step.
    pub fn tokens_per_step(&self) -> u64 {
        self.host_batch.tokens.len() as u64 * u64::from(self.accumulation)
    }

    /// Micro-batches of one step.
    pub fn accumulation(&self) -> u32 {
        self.accumulation
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
        self.begin(step, lr, measured);
        self.record(executor).await
    }

    /// Begins a step as [`Trainer::step`] has it, behind those that have begun; nothing is submitted yet.
    pub fn begin(&mut self, step: u64, lr: f64, measured: bool) {
        let measured = measured && self.training.instruments.is_some();
        self.running.push_back(Running {
            step,
            lr,
            measured,
            next: Part::Begin,
            began: Duration::ZERO,
            wrapped: false,
            metrics: None,
            statistics: Vec::new(),
            rescaled: None,
        });
    }

    /// The last step that has begun, if its record was not taken.
    pub fn begun(&self) -> Option<u64> {
        self.running.back().map(|running| running.step)
    }

    /// Whether the update of the first of the steps that have begun is on its way: the step can only be finished.
    pub fn committed(&self) -> bool {
        self.running.front().is_some_and(|running| running.metrics.is_some())
    }

    /// Finishes the first of the steps that have begun; meanwhile the device gets what can be done of the second. On
    /// the CPU executor that is nothing.
    ///
    /// # Errors
    /// As [`Trainer::step`]; no step that has begun.
    pub async fn record(&mut self, executor: &mut Executor) -> Result<StepRecord, TrainError> {
        loop {
            self.advance(executor, Duration::MAX)?;
            if let Some(record) = self.take()? {
                return Ok(record);
            }
            executor.room().await?;
        }
    }

    /// Submits of the steps that have begun what keeps the device busy for about `budget`; never waits. Done: nothing is
    /// left but what needs the record of the first of them. What computes in the caller's time, the CPU executor and
    /// drivers that do so inside of submits, computes until `budget` is over: one phase, or one dispatch, at least.
    ///
    /// # Errors
    /// Data that cannot be read, a device that is lost, no step that has begun.
    pub fn advance(&mut self, executor: &mut Executor, budget: Duration) -> Result<Progress, TrainError> {
        if self.running.is_empty() {
            return Err(TrainError::NoStep);
        }
        let began = now();
        loop {
            let start = now();
            let progress = executor.advance(budget.saturating_sub(start - began))?;
            self.count(executor, now() - start);
            if progress == Progress::More {
                return Ok(progress);
            }
            if !self.start_part(executor)? {
                return Ok(Progress::Done);
            }
            // Some drivers compute inside of submits.
            if now() - began >= budget {
                return Ok(Progress::More);
            }
        }
    }

    /// The record of the first of the steps that have begun, once it is there; never waits.
    ///
    /// # Errors
    /// A device that is lost or did not finish the step.
    pub fn take(&mut self) -> Result<Option<StepRecord>, TrainError> {
        let Some(running) = self.running.front_mut().filter(|running| running.next == Part::Record) else {
            return Ok(None);
        };
        for late in running.lates() {
            if late.poll()?.is_none() {
                return Ok(None);
            }
        }
        let Some(running) = self.running.pop_front() else { return Ok(None) };
        self.record_of(running).map(Some)
    }

    /// Gives up the steps that have begun. Without their updates, which are not submitted before the records of the
    /// steps before them were taken, parameters and optimizer stay as the step left them whose record was the last.
    ///
    /// # Errors
    /// A device that is lost or hangs.
    pub async fn abandon(&mut self, executor: &mut Executor) -> Result<(), TrainError> {
        self.running.clear();
        executor.abandon().await
    }

    /// Starts the next part of a step; false where there is none, or one that has to wait.
    fn start_part(&mut self, executor: &mut Executor) -> Result<bool, TrainError> {
        let Some(index) = self.running.iter().position(|running| running.next != Part::Record) else {
            return Ok(false);
        };
        let Running { step, lr, measured, next, .. } = self.running[index];
        if index > 0 && (next == Part::Update || !executor.overlaps()) {
            return Ok(false);
        }
        let (start, before) = (now(), self.host.batches);
        let tvr = self.training.tvr.as_ref().filter(|tvr| tvr.due(step)).map(|tvr| tvr.rescaled());
        let rescale = if tvr.is_some() { Part::Rescale } else { Part::Record };
        let following = match next {
            Part::Begin => {
                self.running[index].began = start;
                self.write_step(executor, step, lr)?;
                executor.start(Phase::Begin)?;
                Part::MicroBatch(0)
            }
            Part::MicroBatch(micro) => {
                self.running[index].wrapped |= self.write_batch(executor, step, micro)?;
                self.host.batches += now() - start;
                executor.start(Phase::ForwardBackward)?;
                match micro + 1 {
                    next if next < self.accumulation => Part::MicroBatch(next),
                    _ if measured => Part::Snapshot,
                    _ => Part::Update,
                }
            }
            Part::Snapshot => {
                executor.start(Phase::Snapshot)?;
                Part::Update
            }
            Part::Update => {
                executor.start(Phase::Update)?;
                self.running[index].metrics = Some(executor.read_later(self.training.update.metrics)?);
                if measured { Part::Measure } else { rescale }
            }
            Part::Measure => {
                executor.start(Phase::Measure)?;
                for tensor in self.training.instruments.iter().flat_map(|instruments| instruments.reads()) {
                    self.running[index].statistics.push(executor.read_later(tensor)?);
                }
                rescale
            }
            Part::Rescale => {
                // It changes the parameters that a step without a finite loss is run again with.
                let Some(finite) = self.running[index].loss_is_finite()? else { return Ok(false) };
                if let Some(rescaled) = tvr.filter(|_| finite) {
                    executor.start(Phase::Rescale)?;
                    self.running[index].rescaled = Some(executor.read_later(rescaled)?);
                }
                Part::Record
            }
            Part::Record => return Ok(false),
        };
        self.running[index].next = following;
        self.count(executor, (now() - start).saturating_sub(self.host.batches - before));
        Ok(true)
    }

    /// Counts time as the host's; on the CPU executor it is the kernels'.
    fn count(&mut self, executor: &mut Executor, time: Duration) {
        if executor.overlaps() {
            let submit = executor.take_submitting();
            self.host.submit += submit;
            self.host.record += time.saturating_sub(submit);
        }
    }

    fn record_of(&mut self, mut running: Running) -> Result<StepRecord, TrainError> {
        let arrived = running.lates().map(|late| late.arrived()).max().unwrap_or_default();
        let Running { step, began, wrapped, metrics, statistics, rescaled, .. } = &mut running;
        let values = |late: &mut Option<Late>| -> Result<Option<Vec<f32>>, TrainError> {
            let Some(late) = late else { return Ok(None) };
            Ok(late.poll()?.map(<[f32]>::to_vec))
        };
        let metrics = values(metrics)?.unwrap_or_default();
        let got = metrics.get(slots::STEP).copied().unwrap_or_default();
        if got != *step as f32 {
            return Err(TrainError::Incomplete { step: *step, got });
        }
        let mut read = Vec::new();
        for late in statistics {
            read.extend(late.poll()?);
        }
        let instruments = self.training.instruments.as_ref().filter(|_| !read.is_empty());
        let time = arrived.saturating_sub(self.ended.max(*began));
        self.ended = arrived;
        Ok(StepRecord {
            step: *step,
            loss: f64::from(metrics[slots::LOSS]),
            grad_norm: f64::from(metrics[slots::NORM]),
            applied: metrics[slots::FINITE] > 0.0,
            applied_steps: metrics[slots::APPLIED] as u64,
            loss_scale: self.training.update.loss_scale.dynamic.then(|| f64::from(metrics[slots::LOSS_SCALE])),
            wrapped: *wrapped,
            tvr_rescaled: values(rescaled)?.map(|rescaled| rescaled[0] as u64),
            measurement: instruments.map(|instruments| instruments.measurement(&read)),
            time,
            host: std::mem::take(&mut self.host),
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
        let HostBatch { tokens, targets, order, starts } = &mut self.host_batch;
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
}

impl Running {
    /// Everything that is read of the step.
    fn lates(&mut self) -> impl Iterator<Item = &mut Late> {
        self.metrics.iter_mut().chain(&mut self.statistics).chain(&mut self.rescaled)
    }

    /// Whether its loss is finite, once that is known.
    fn loss_is_finite(&mut self) -> Result<Option<bool>, TrainError> {
        let Some(metrics) = &mut self.metrics else { return Ok(None) };
        Ok(metrics.poll()?.map(|metrics| metrics[slots::LOSS].is_finite()))
    }
}
