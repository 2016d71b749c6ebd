//! From a model's configuration to one schedule with everything that a run does with it.

use std::sync::Arc;

use evenkeel_model::{
    Arch, ModelConfig,
    generation::{GenerationShape, GenerationTensors, record_generation},
    transformer::{
        BatchShape, EvaluationTensors, RopeConstants, TrainingTensors, declarations, record_evaluation,
        record_half_copies, record_training,
    },
};
use evenkeel_schedule::{DType, ParameterDecl, Params, Phase, Recorder, Role, Schedule, Tensor, TensorId};
use evenkeel_shaders::{MOST_HALF_HEAD, fill, sum};

use crate::{
    Compute, Executor, TrainError,
    instruments::Instruments,
    names::{any_names, fault, require_all},
    optimizer::{LossScale, UpdateTensors, is_decayed, record_update},
    settings::{OptimizerSettings, Precision, TvrSettings},
    tvr::Tvr,
};

/// What a program is to contain.
#[derive(Clone, Debug, Default)]
pub struct ProgramParts<'a> {
    /// Training steps.
    pub training: Option<TrainingPart<'a>>,
    /// Evaluation of batches of this shape.
    pub evaluation: Option<BatchShape>,
    /// Generation with these extents.
    pub generation: Option<GenerationShape>,
}

/// Training in a program.
#[derive(Clone, Debug)]
pub struct TrainingPart<'a> {
    /// Of a micro-batch.
    pub shape: BatchShape,
    /// Micro-batches per step.
    pub accumulation: usize,
    /// Parts of the names of parameters that are not trained.
    pub freeze: &'a [String],
    /// Update rule.
    pub optimizer: &'a OptimizerSettings,
    /// Target variance rescaling.
    pub tvr: &'a TvrSettings,
    /// Of activations and of the operands of matrix products.
    pub precision: Precision,
    /// Whether steps can be measured.
    pub instruments: bool,
}

/// Training as it was recorded.
#[derive(Clone, Debug)]
pub struct RecordedTraining {
    /// Of the forward and backward phase.
    pub tensors: TrainingTensors,
    /// Of the update phase.
    pub update: UpdateTensors,
    /// Target variance rescaling, where it is enabled.
    pub tvr: Option<Tvr>,
    /// The instruments, where there are any.
    pub instruments: Option<Instruments>,
}

/// A recorded program: the schedule, and the tensors by which the host takes part in it.
#[derive(Clone, Debug)]
pub struct Program {
    /// The model.
    pub config: ModelConfig,
    /// What the executors run.
    pub schedule: Arc<Schedule>,
    /// Of training.
    pub training: Option<RecordedTraining>,
    /// Of evaluation.
    pub evaluation: Option<EvaluationTensors>,
    /// Of generation.
    pub generation: Option<GenerationTensors>,
    /// Weight of a row's loss in a step's: 1 / (rows * micro-batches).
    loss_weight: f32,
}

impl Program {
    /// Records a program for tensors of at most `binding_limit` bytes.
    ///
    /// # Errors
    /// Shapes that do not fit, tensors beyond the limit, settings that name parameters which the model does not have.
    pub fn record(config: &ModelConfig, parts: &ProgramParts<'_>, binding_limit: u64) -> Result<Self, TrainError> {
        let accumulation = parts.training.as_ref().map_or(1, |training| training.accumulation);
        let mut r = Recorder::new(binding_limit, accumulation > 1);
        if parts.training.as_ref().is_some_and(|training| training.precision == Precision::Mixed) {
            check_extents(config)?;
            r = r.with_half_copies();
        }
        r.parameters(&declared(config, parts.training.as_ref())?)?;
        let mut loss_weight = 0.0;
        let training = match &parts.training {
            Some(training) => {
                loss_weight = (1.0 / (training.shape.rows() * accumulation) as f64) as f32;
                Some(record_step(&mut r, config, training, loss_weight)?)
            }
            None => None,
        };
        let evaluation = parts.evaluation.map(|shape| record_evaluation(&mut r, config, shape)).transpose()?;
        let generation = parts.generation.map(|shape| record_generation(&mut r, config, shape)).transpose()?;
        let schedule = Arc::new(r.finish()?);
        Ok(Self { config: config.clone(), schedule, training, evaluation, generation, loss_weight })
    }

    /// Prepares the program on `compute` and writes its constants and `parameters`, which are in the order of
    /// `config.parameters()`.
    ///
    /// # Errors
    /// Those of the device.
    pub async fn prepare(
        &self,
        compute: &Compute,
        parameters: &[Vec<f32>],
        progress: &mut (dyn FnMut(usize, usize) + Send),
    ) -> Result<Executor, TrainError> {
        let mut executor = compute.prepare(Arc::clone(&self.schedule), progress).await?;
        for (spec, values) in self.config.parameters().iter().zip(parameters) {
            executor.write(self.schedule.find(&spec.name)?, values)?;
        }
        for RopeConstants { tables, cos, sin } in self.rope_constants() {
            executor.write(tables.cos, cos)?;
            executor.write(tables.sin, sin)?;
        }
        if let Some(generation) = &self.generation {
            executor.write(generation.angles, &generation.angle_values)?;
        }
        let Some(training) = &self.training else { return Ok(executor) };
        if let Some(weights) = training.tensors.loss.weights {
            let rows = self.schedule.tensor(weights).len();
            executor.write(weights, &vec![self.loss_weight; rows])?;
        }
        let loss_scale = &training.update.loss_scale;
        executor.write(loss_scale.tensor, &loss_scale.initial())?;
        for segments in &training.update.segments {
            executor.write(segments.table, &segments.values)?;
        }
        if let Some(tvr) = &training.tvr {
            tvr.prepare(&mut executor)?;
        }
        if let Some(instruments) = &training.instruments {
            instruments.prepare(&mut executor)?;
        }
        Ok(executor)
    }

    fn rope_constants(&self) -> impl Iterator<Item = &RopeConstants> {
        let training = self.training.iter().map(|training| &training.tensors.rope);
        training.chain(self.evaluation.iter().map(|evaluation| &evaluation.rope))
    }

    /// What the optimizer remembers of each trained parameter: tensors called `PARAMETER.SUFFIX`, by which they stand in
    /// a checkpoint.
    pub fn moments(&self) -> impl Iterator<Item = (TensorId, &Tensor)> {
        self.schedule.tensors().filter(|(_, tensor)| tensor.role == Role::Moment && tensor.within.is_some())
    }

    /// Tensors of the parameters, in the order of `config.parameters()`.
    ///
    /// # Errors
    /// None that a recorded program gives.
    pub fn parameters(&self) -> Result<Vec<TensorId>, TrainError> {
        let find = |name: String| self.schedule.find(&name).map_err(TrainError::from);
        self.config.parameters().into_iter().map(|spec| find(spec.name)).collect()
    }
}

/// The parameters, with what is trained of them and what is decayed of that.
fn declared(config: &ModelConfig, training: Option<&TrainingPart<'_>>) -> Result<Vec<ParameterDecl>, TrainError> {
    let mut declared = declarations(config);
    let specs = config.parameters();
    let Some(training) = training else {
        declared.iter_mut().for_each(|parameter| parameter.trainable = false);
        return Ok(declared);
    };
    let all = specs.iter().map(|spec| spec.name.as_str());
    require_all("model.freeze", training.freeze, "parameters, such as \"model.embed_tokens\"", all)?;
    let matrices = specs.iter().filter(|spec| spec.is_matrix()).map(|spec| spec.name.as_str());
    require_all("optimizer.no_decay", &training.optimizer.no_decay, "matrices, such as \"embed_tokens\"", matrices)?;
    for (parameter, spec) in declared.iter_mut().zip(&specs) {
        parameter.decayed = is_decayed(training.optimizer, spec);
        parameter.trainable = !any_names(training.freeze, &spec.name);
    }
    if declared.iter().all(|parameter| !parameter.trainable) {
        return Err(fault("model.freeze", "at least one parameter left to train", format!("{:?}", training.freeze)));
    }
    Ok(declared)
}

fn record_step(
    r: &mut Recorder,
    config: &ModelConfig,
    training: &TrainingPart<'_>,
    loss_weight: f32,
) -> Result<RecordedTraining, TrainError> {
    let loss = r.new_tensor("loss", Role::State, DType::F32, &[("N", 1)])?;
    let loss_scale = LossScale::declare(r, training.precision)?;
    let several = training.accumulation > 1;
    r.begin_phase(Phase::Begin)?;
    if loss_scale.dynamic {
        record_half_copies(r, config)?;
    }
    if several {
        for tensor in r.gradient_arenas().into_iter().chain([loss]) {
            clear(r, tensor)?;
        }
    }
    let scale = loss_scale.dynamic.then_some(loss_scale.tensor);
    let tensors = record_training(r, config, training.shape, scale)?;
    r.scope("loss", |r| {
        let params = Params::dims([("N", training.shape.rows()), ("accumulate", usize::from(several))])
            .with_scalar("scale", loss_weight);
        r.run(&sum::CARD, params, &[tensors.loss.losses.into(), loss.into()])
    })?;
    let parameters = config.parameters();
    let update = record_update(r, training.optimizer, &parameters, loss, loss_scale)?;
    let tvr = Tvr::record(r, training.tvr, &parameters)?;
    let instruments =
        if training.instruments { Some(Instruments::record(r, config, &tensors, training.shape)?) } else { None };
    Ok(RecordedTraining { tensors, update, tvr, instruments })
}

/// Kernels read half precision four elements at a time, and those of attention have room for heads of so many.
fn check_extents(config: &ModelConfig) -> Result<(), TrainError> {
    let mut extents = vec![
        ("hidden_size", config.hidden_size, 4),
        ("intermediate_size", config.intermediate_size, 4),
        ("head_dim", config.head_dim, 8),
    ];
    if let Arch::Kat(rational) = &config.arch {
        extents[0].2 = 4 * rational.groups;
        extents[1].2 = 4 * rational.groups;
    }
    let fault = |name: &str, expected: String, got: usize| {
        Err(TrainError::Setting {
            name: "train.precision".to_owned(),
            expected: format!("\"f32\", for \"mixed\" needs a {name} {expected}"),
            got: format!("\"mixed\" with a {name} of {got}"),
            origin: format!("model.{name}"),
        })
    };
    for (name, extent, of) in extents {
        if !extent.is_multiple_of(of) {
            return fault(name, format!("in multiples of {of}"), extent);
        }
    }
    if config.head_dim > MOST_HALF_HEAD {
        return fault("head_dim", format!("of at most {MOST_HALF_HEAD}"), config.head_dim);
    }
    Ok(())
}

fn clear(r: &mut Recorder, tensor: TensorId) -> Result<(), TrainError> {
    let params = Params::dims([("N", r.tensor(tensor).len())]).with_scalar("value", 0.0);
    Ok(r.scope("clear", |r| r.run(&fill::CARD, params, &[tensor.into()]))?)
}
