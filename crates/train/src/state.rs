//! What a run is at one point: parameters, moments and the optimizer's state, between the device and checkpoints.

use std::path::{Path, PathBuf};

use evenkeel_data::Tokenizer;
use evenkeel_model::config::ModelConfig;
use evenkeel_schedule::{Tensor, TensorId};

use crate::{
    Compute, ComputeName, Executor, Program, Setup, TrainError,
    checkpoint::{
        self, CheckpointParts, LoadedCheckpoint, StoredTensors,
        trainer_state::{self, Best, FORMAT_VERSION, TrainerState},
    },
    run_folder::RunFolder,
    settings::Settings,
    tensor_file::TensorRef,
};

/// The state of the optimizer that is no moment; of a run in mixed precision also the loss scale.
const STATE: &str = "optimizer.state";
const LOSS_SCALE: &str = "optimizer.loss_scale";

/// What all checkpoints of a run say alike.
#[derive(Clone, Debug)]
pub struct Identity {
    config: ModelConfig,
    compute: ComputeName,
    seed: u64,
    tokens_per_step: u64,
    tokenizer: Option<Tokenizer>,
    data: String,
}

/// Where a run is when a checkpoint of it is written.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Steps done.
    pub step: u64,
    /// Updates applied of them.
    pub applied_steps: u64,
    /// Whether the checkpoint is written for its validation loss alone.
    pub only_as_best: bool,
    /// The lowest validation loss up to here, if the run keeps its checkpoint.
    pub best: Option<Best>,
}

impl Identity {
    /// Of a run on `compute`.
    pub fn of(setup: &Setup, settings: &Settings, compute: &Compute) -> Self {
        let train = &settings.train;
        Self {
            config: setup.config.clone(),
            compute: compute.name(),
            seed: train.seed,
            tokens_per_step: (train.batch_size * train.grad_accumulation * train.seq_len) as u64,
            tokenizer: setup.tokenizer.clone(),
            data: setup.batches.corpus().fingerprint(),
        }
    }

    /// The trainer's state at a point of the run.
    fn at(&self, point: &Point) -> TrainerState {
        TrainerState {
            format_version: FORMAT_VERSION,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            adapter: self.compute.adapter.clone(),
            driver: self.compute.driver.clone(),
            backend: self.compute.backend.clone(),
            step: point.step,
            applied_steps: point.applied_steps,
            data_position: point.step * self.tokens_per_step,
            seed: self.seed,
            tokenizer: kind(self.tokenizer.as_ref()),
            data: Some(self.data.clone()),
            only_as_best: point.only_as_best,
            best: point.best,
        }
    }

    /// Refuses to go on with a checkpoint of another model, or of other data: what came then would be no run that the
    /// settings tell of.
    ///
    /// # Errors
    /// [`TrainError::Resume`]; a tokenizer that cannot be read.
    pub fn require_same_run(&self, path: &Path, stored: &LoadedCheckpoint) -> Result<(), TrainError> {
        let other = |what, hint| {
            let (path, expected, got) = (path.to_owned(), "the run's", "another");
            Err(TrainError::Resume { path, what, expected, got, hint })
        };
        if stored.config != self.config {
            return other("model", "");
        }
        let tokenizer = self.tokenizer.as_ref();
        let same = Tokenizer::of_folder(path)?.as_ref() == tokenizer && stored.trainer.tokenizer == kind(tokenizer);
        if !same {
            return other("tokenizer", "");
        }
        match &stored.trainer.data {
            Some(data) if *data != self.data => {
                other("training data", "; a new run with model.from goes on with other data")
            }
            _ => Ok(()),
        }
    }
}

/// What a checkpoint says of a tokenizer.
fn kind(tokenizer: Option<&Tokenizer>) -> trainer_state::Tokenizer {
    match tokenizer {
        Some(tokenizer) if tokenizer.is_bytes() => trainer_state::Tokenizer::Bytes,
        Some(_) => trainer_state::Tokenizer::File,
        None => trainer_state::Tokenizer::None,
    }
}

/// Writes a checkpoint of what the device has, which is what it has at `point`. `hint` says how to go on where the
/// parameters are of no use.
///
/// # Errors
/// Parameters that are not finite, a device that is lost, what the system refuses.
pub async fn save(
    program: &Program,
    executor: &mut Executor,
    folder: &RunFolder,
    identity: &Identity,
    point: &Point,
    hint: &str,
) -> Result<PathBuf, TrainError> {
    let schedule = &program.schedule;
    let mut model = Vec::new();
    for spec in program.config.parameters() {
        let values = executor.read(schedule.find(&spec.name)?).await?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(TrainError::NonFiniteParameter { name: spec.name, index, hint: hint.to_owned() });
        }
        model.push((spec.name, spec.shape, values));
    }
    let mut optimizer = Vec::new();
    for (id, moment) in program.moments() {
        optimizer.push((moment.name.clone(), extents(moment), executor.read(id).await?));
    }
    for (name, tensor) in kept(program) {
        let values = executor.read(tensor).await?;
        optimizer.push((name.to_owned(), vec![values.len()], values));
    }
    let (config, tokenizer, trainer) = (&program.config, identity.tokenizer.as_ref(), &identity.at(point));
    let parts = CheckpointParts { config, model: &refs(&model), tokenizer, optimizer: &refs(&optimizer), trainer };
    Ok(checkpoint::save(folder, &parts)?)
}

/// Writes what the optimizer knew to the device.
///
/// # Errors
/// Tensors that are missing, have another shape, or are not this optimizer's; a device that is lost.
pub fn restore(program: &Program, executor: &mut Executor, mut stored: StoredTensors) -> Result<(), TrainError> {
    for (id, moment) in program.moments() {
        executor.write(id, &stored.take(&moment.name, &extents(moment))?)?;
    }
    for (name, tensor) in kept(program) {
        let values = stored.take(name, &[program.schedule.tensor(tensor).len()])?;
        executor.write(tensor, &values)?;
    }
    Ok(stored.finish()?)
}

/// What the optimizer keeps besides moments.
fn kept(program: &Program) -> impl Iterator<Item = (&'static str, TensorId)> + use<> {
    let update = program.training.as_ref().map(|training| (training.update.state, training.update.loss_scale));
    update.into_iter().flat_map(|(state, loss_scale)| {
        [(STATE, state)].into_iter().chain(loss_scale.dynamic.then_some((LOSS_SCALE, loss_scale.tensor)))
    })
}

fn extents(tensor: &Tensor) -> Vec<usize> {
    tensor.shape.iter().map(|dim| dim.extent).collect()
}

fn refs(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<TensorRef<'_>> {
    tensors.iter().map(|(name, shape, data)| TensorRef { name: name.clone(), shape: shape.clone(), data }).collect()
}
