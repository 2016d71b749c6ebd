//! What a run is at one point: parameters, moments and the optimizer's state, between the device and checkpoints.

use std::path::{Path, PathBuf};

use evenkeel_data::Tokenizer;
use evenkeel_model::config::ModelConfig;
use evenkeel_schedule::{Tensor, TensorId};

use crate::{
    Compute, ComputeName, Executor, Program, Setup, TrainError,
    checkpoint::{
        self, CheckpointParts, LoadedCheckpoint, StoredTensors,
        trainer_state::{self, Batches, Best, FORMAT_VERSION, TrainerState},
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
    batches: Batches,
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
            batches: Batches {
                order: settings.data.order,
                batch_size: train.batch_size,
                grad_accumulation: train.grad_accumulation,
                seq_len: train.seq_len,
            },
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
            data_position: self.data_position(point.step),
            seed: self.seed,
            tokenizer: kind(self.tokenizer.as_ref()),
            data: Some(self.data.clone()),
            batches: Some(self.batches),
            only_as_best: point.only_as_best,
            best: point.best,
        }
    }

    /// Tokens that the first `step` steps read; settings keep those of one step below 2^32.
    fn data_position(&self, step: u64) -> u64 {
        let Batches { batch_size, grad_accumulation, seq_len, .. } = self.batches;
        step.saturating_mul((batch_size * grad_accumulation * seq_len) as u64)
    }

    /// Refuses to go on with a checkpoint of another model, of other data, or of data read in another way: what came
    /// then would be no run that the settings tell of.
    ///
    /// # Errors
    /// [`TrainError::Resume`]; a tokenizer that cannot be read.
    pub fn require_same_run(&self, path: &Path, stored: &LoadedCheckpoint) -> Result<(), TrainError> {
        let other = |what, hint: &str| {
            let (expected, got) = ("the run's".to_owned(), "another".to_owned());
            Err(TrainError::Resume { path: path.to_owned(), what, expected, got, hint: hint.to_owned() })
        };
        self.require_same_batches(path, &stored.trainer)?;
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

    /// Checks that the settings read on where the checkpoint's steps ended.
    fn require_same_batches(&self, path: &Path, stored: &TrainerState) -> Result<(), TrainError> {
        let mut facts = vec![("train.seed", self.seed.to_string(), stored.seed.to_string())];
        if let Some(batches) = stored.batches {
            let of = |Batches { order, batch_size, grad_accumulation, seq_len }: Batches| {
                [
                    ("data.order", format!("{:?}", order.name())),
                    ("train.batch_size", batch_size.to_string()),
                    ("train.grad_accumulation", grad_accumulation.to_string()),
                    ("train.seq_len", seq_len.to_string()),
                ]
            };
            let pairs = of(self.batches).into_iter().zip(of(batches));
            facts.extend(pairs.map(|((key, run), (_, checkpoint))| (key, run, checkpoint)));
        }
        // Of a checkpoint that notes no more, this tells whether its steps had as many tokens.
        let position = self.data_position(stored.step);
        let what = "tokens read, by batch_size, grad_accumulation and seq_len";
        facts.push((what, position.to_string(), stored.data_position.to_string()));
        match facts.into_iter().find(|(_, run, checkpoint)| run != checkpoint) {
            None => Ok(()),
            Some((what, run, got)) => {
                let hint = "; put run.toml back as it was, or begin a new run with other settings".to_owned();
                Err(TrainError::Resume {
                    path: path.to_owned(),
                    what,
                    expected: format!("{run} as in run.toml"),
                    got,
                    hint,
                })
            }
        }
    }
}

/// The error of reading the checkpoint of `step`, with the way on where an older checkpoint is there. A run is not made
/// to go on from that one by itself: what is damaged is for its user to know.
pub fn damaged(folder: &RunFolder, step: u64, error: TrainError) -> TrainError {
    // All others are no fault of the checkpoint.
    if !matches!(error, TrainError::Checkpoint(_) | TrainError::Data(_)) {
        return error;
    }
    match checkpoint::newest_before(folder, step) {
        Ok(Some(older)) => {
            TrainError::Damaged { source: Box::new(error), checkpoint: checkpoint::folder_of(folder, step), older }
        }
        _ => error,
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
