//! What is kept of a run that has ended: `result.json` in its folder.
//!
//! All of it but the times is measured on the last checkpoint, so that a run that was killed and resumed has the result
//! of an unbroken one.

use std::{io::Write, path::Path};

use evenkeel_model::transformer::BatchShape;
use serde::{Deserialize, Serialize};

use super::statistics::{mean, quantile};
use crate::{
    Compute, Evaluation, Program, ProgramParts, Setup, TrainError,
    checkpoint::{
        TRAINER_FILE,
        error::{CheckpointError, excerpt},
        trainer_state::TrainerState,
    },
    evaluate, fixed_set,
    inspection::{Model, Tensor, run::RunRecord},
    run_folder::RunFolder,
    settings::Settings,
    tensor_file::read_text,
};

const RESULT_FILE: &str = "result.json";
const MAX_RESULT: u64 = 64 << 20;

/// The result of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Seed of the run.
    pub seed: u64,
    /// Version of the engine.
    pub engine_version: String,
    /// What computed it, as in a checkpoint's [`TrainerState`].
    pub adapter: String,
    /// Its driver.
    pub driver: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Median over the steps.
    pub tokens_per_s: f64,
    /// Time of all steps, without compilation, evaluations and checkpoints.
    pub seconds: f64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// After its last step.
    Finished(Measured),
    /// With numbers that are not finite.
    Diverged {
        /// The step, and what was not finite.
        reason: String,
    },
}

/// What a finished run is measured by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Steps done.
    pub step: u64,
    /// Mean over the fixed evaluation set, in nats.
    pub validation_loss: f64,
    /// Mean of each of its windows.
    pub windows: Vec<f64>,
    /// Every weight matrix, embedding and head included, in the order of the parameters.
    pub matrices: Vec<Matrix>,
    /// Last entry of the instruments, where they were on: after the embedding and after each layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residual_stream: Vec<ResidualStream>,
}

/// A weight matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// Parameter.
    pub name: String,
    /// Its layer, from 1; none of the embedding and the head.
    pub layer: Option<usize>,
    /// Standard deviation with N - 1.
    pub std: f64,
}

/// The residual stream at one depth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResidualStream {
    /// Largest magnitude.
    pub absmax: f64,
    /// Median magnitude.
    pub median: f64,
    /// Fourth central moment over the squared second; 3 of a normal distribution.
    pub kurtosis: f64,
}

impl RunResult {
    /// The result in a run's folder, if the run has ended.
    ///
    /// # Errors
    /// A file that cannot be read or is not a result.
    pub fn read(folder: &Path) -> Result<Option<Self>, TrainError> {
        let path = folder.join(RESULT_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = read_text(&path, MAX_RESULT)?;
        let result = serde_json::from_str(&text)
            .map_err(|error| CheckpointError::malformed(&path, "the result of a run", excerpt(&error.to_string())))?;
        Ok(Some(result))
    }

    /// Measures the last checkpoint of a run that has done all its steps.
    ///
    /// # Errors
    /// A folder without a checkpoint or metrics, a device that is lost, or whatever [`Setup::new`] refuses.
    pub(super) async fn measure(
        settings: &Settings,
        folder: &RunFolder,
        compute: &Compute,
    ) -> Result<Self, TrainError> {
        let record = RunRecord::read(folder.path())?;
        let Some((step, checkpoint)) = &record.newest else {
            return Err(CheckpointError::malformed(folder.path(), "a checkpoint of the last step", "none").into());
        };
        let trainer = TrainerState::read(&checkpoint.join(TRAINER_FILE))?;
        let tensors = Model::read(checkpoint)?.tensors;
        let matrix = |tensor: &Tensor| Matrix {
            name: tensor.spec.name.clone(),
            layer: tensor.layer(),
            std: tensor.statistics.std.unwrap_or(0.0),
        };
        let matrices = tensors.iter().filter(|tensor| tensor.spec.is_matrix()).map(matrix).collect();
        let parameters: Vec<_> = tensors.into_iter().map(|tensor| tensor.values).collect();
        let evaluation = evaluate_parameters(settings, &parameters, compute).await?;
        let (tokens_per_s, seconds) = times(&record);
        Ok(Self {
            seed: settings.train.seed,
            engine_version: trainer.engine_version,
            adapter: trainer.adapter,
            driver: trainer.driver,
            outcome: Outcome::Finished(Measured {
                step: *step,
                validation_loss: evaluation.loss,
                windows: evaluation.windows,
                matrices,
                residual_stream: residual_stream(&record),
            }),
            tokens_per_s,
            seconds,
        })
    }

    /// The result of a run that diverged, see [`divergence`].
    ///
    /// # Errors
    /// Metrics that cannot be read.
    pub(super) fn diverged(
        reason: String,
        settings: &Settings,
        folder: &RunFolder,
        compute: &Compute,
    ) -> Result<Self, TrainError> {
        let (tokens_per_s, seconds) = times(&RunRecord::read(folder.path())?);
        let name = compute.name();
        Ok(Self {
            seed: settings.train.seed,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            adapter: name.adapter,
            driver: name.driver,
            outcome: Outcome::Diverged { reason },
            tokens_per_s,
            seconds,
        })
    }

    /// Writes the result, whole or not at all.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub(super) fn write(&self, folder: &RunFolder) -> Result<(), TrainError> {
        Ok(folder.replace(RESULT_FILE, |writer| {
            serde_json::to_writer_pretty(&mut *writer, self)?;
            writer.write_all(b"\n")
        })?)
    }

    /// What the run is measured by, if it has finished.
    pub fn measured(&self) -> Option<&Measured> {
        match &self.outcome {
            Outcome::Finished(measured) => Some(measured),
            Outcome::Diverged { .. } => None,
        }
    }
}

impl Measured {
    /// Mean standard deviation of the matrices inside the layers.
    pub fn matrix_std(&self) -> f64 {
        let inside = self.matrices.iter().filter(|matrix| matrix.layer.is_some());
        mean(&inside.map(|matrix| matrix.std).collect::<Vec<_>>())
    }

    /// Largest magnitude of the residual stream at any depth, where instruments were on.
    pub fn residual_absmax(&self) -> Option<f64> {
        self.residual_stream.iter().map(|layer| layer.absmax).reduce(f64::max)
    }
}

/// What was not finite and when, if `error` says that a run diverged: to a study that is a result like another.
pub(super) fn divergence(error: &TrainError) -> Option<String> {
    match error {
        TrainError::NonFinite { step, loss, .. } => Some(format!("step {step}: loss {loss}")),
        TrainError::NonFiniteNorm { step, skipped, .. } => {
            Some(format!("step {step}: {skipped} gradient norms in a row that are not finite"))
        }
        TrainError::NonFiniteParameter { name, .. } => Some(format!("{name} is not finite")),
        _ => None,
    }
}

/// The evaluation after the last step, done again from its checkpoint.
async fn evaluate_parameters(
    settings: &Settings,
    parameters: &[Vec<f32>],
    compute: &Compute,
) -> Result<Evaluation, TrainError> {
    let setup = Setup::new(settings, compute)?;
    let Some(windows) = &setup.validation else { return Err(TrainError::Program { part: "evaluation" }) };
    let shape = BatchShape { batch: settings.train.batch_size, time: settings.train.seq_len };
    let parts = ProgramParts { evaluation: Some(shape), ..ProgramParts::default() };
    let program = Program::record(&setup.config, &parts, compute.binding_limit())?;
    let mut executor = program.prepare(compute, parameters, &mut |_, _| ()).await?;
    evaluate(&program, &mut executor, windows, &fixed_set(windows), &mut |_, _| ()).await
}

/// Median tokens/s, and seconds, of the steps.
fn times(record: &RunRecord) -> (f64, f64) {
    let train = &record.settings.train;
    let tokens = (train.batch_size * train.grad_accumulation * train.seq_len) as f64;
    let mut rates: Vec<f64> = record.series("/tokens_per_s").into_iter().map(|(_, rate)| rate).collect();
    let seconds = rates.iter().map(|rate| tokens / rate).sum();
    rates.sort_by(f64::total_cmp);
    (if rates.is_empty() { 0.0 } else { quantile(&rates, 0.5) }, seconds)
}

fn residual_stream(record: &RunRecord) -> Vec<ResidualStream> {
    let last = |place: usize, field: &str| {
        let series = record.series(&format!("/residual_stream/{place}/{field}"));
        series.last().map(|&(_, value)| value)
    };
    let at = |place| {
        Some(ResidualStream {
            absmax: last(place, "absmax")?,
            median: last(place, "median")?,
            kurtosis: last(place, "kurtosis")?,
        })
    };
    (0..record.measured_places()).map_while(at).collect()
}
