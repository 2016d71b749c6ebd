//! Everything that a run needs, checked before anything is allocated or written: settings in, model, data and
//! recorded program out.

use std::{ops::ControlFlow, path::PathBuf};

use evenkeel_data::{
    Batches, Corpus, Data, DataWatch, Order as DataOrder, Sources, Tokenizer, TokenizerChoice, Windows,
};
use evenkeel_model::{
    ModelConfig,
    generation::GenerationShape,
    init::{Init, InitScheme, initialise},
    transformer::BatchShape,
};
use evenkeel_schedule::{Phase, Role};

use crate::{
    Compute, Program, ProgramParts, TrainError, TrainingPart,
    checkpoint::{
        self,
        model::{load_parameters, read_config},
    },
    settings::{Order, Settings},
};

/// Tokens of the sample at the end of a run, the one that it begins with included, where the model saw as many at once.
const SAMPLE_CONTEXT: usize = 101;

/// Where a model's first weights come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Weights {
    /// Drawn.
    Initial {
        /// Distribution.
        init: Init,
        /// Seed of the run.
        seed: u64,
    },
    /// Read from a folder in Hugging Face's layout.
    Folder(PathBuf),
}

impl Weights {
    /// All parameters, in the order of `config.parameters()`.
    ///
    /// # Errors
    /// Files that cannot be read or are not this model's.
    pub fn load(&self, config: &ModelConfig) -> Result<Vec<Vec<f32>>, TrainError> {
        let specs = config.parameters();
        match self {
            Self::Initial { init, seed } => {
                let layers = config.num_hidden_layers;
                Ok(specs.iter().map(|spec| initialise(spec, *init, layers, *seed)).collect())
            }
            Self::Folder(folder) => Ok(load_parameters(folder, &specs)?),
        }
    }
}

/// A run, ready to be placed on a device.
#[derive(Debug)]
pub struct Setup {
    /// The model.
    pub config: ModelConfig,
    /// Its first weights.
    pub weights: Weights,
    /// Training data in order.
    pub batches: Batches,
    /// Validation data, where there is some.
    pub validation: Option<Windows>,
    /// How text becomes tokens; none where the data are tokens of an unknown one.
    pub tokenizer: Option<Tokenizer>,
    /// Everything recorded.
    pub program: Program,
}

/// What a run will take: the answer of `--dry-run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Number of parameters.
    pub parameters: u64,
    /// Planned bytes by role.
    pub bytes: Vec<(Role, u64)>,
    /// Bytes that are in use at the same time at most: those that no plan can do without.
    pub live_peak_bytes: u64,
    /// Floating-point operations of one step.
    pub flops_per_step: u64,
    /// Bytes on disk of all checkpoints that are kept, and of the one being written.
    pub disk_bytes: u64,
}

impl Setup {
    /// Checks settings, model and data, and records the program for `compute`.
    ///
    /// # Errors
    /// Whatever is wrong with any of them.
    pub fn new(settings: &Settings, compute: &Compute) -> Result<Self, TrainError> {
        Self::with_data(settings, compute, None, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`Setup::new`], with the tokenizer that a run began with, if it has one; `watch` hears how the data are
    /// prepared.
    ///
    /// # Errors
    /// As there, and a watch that stops.
    pub fn with_data(
        settings: &Settings,
        compute: &Compute,
        known: Option<Tokenizer>,
        watch: DataWatch,
    ) -> Result<Self, TrainError> {
        let (config, weights) = model(settings)?;
        let train = &settings.train;
        if train.seq_len > config.max_position_embeddings {
            return Err(TrainError::Setting {
                name: "train.seq_len".to_owned(),
                expected: format!("at most the model's max_position_embeddings {}", config.max_position_embeddings),
                got: train.seq_len.to_string(),
                origin: "lower it".to_owned(),
            });
        }
        let sources = sources(settings, known)?;
        let Data { train: corpus, valid, tokenizer } = evenkeel_data::open(&sources, config.vocab_size, watch)?;
        let order = match settings.data.order {
            Order::Shuffled => DataOrder::Shuffled,
            Order::Sequential => DataOrder::Sequential,
        };
        let shape = BatchShape { batch: train.batch_size, time: train.seq_len };
        let accumulation = train.grad_accumulation as u32;
        let batches = Batches::new(corpus, order, train.seed, shape.batch, shape.time, accumulation)?;
        let validation = valid.map(|corpus: Corpus| Windows::new(corpus, shape.time)).transpose()?;
        let parts = ProgramParts {
            training: Some(TrainingPart {
                shape,
                accumulation: train.grad_accumulation,
                freeze: &settings.model.freeze,
                optimizer: &settings.optimizer,
                tvr: &settings.tvr,
                precision: train.precision,
                instruments: settings.instruments.interval > 0,
            }),
            evaluation: validation.as_ref().map(|_| shape),
            generation: tokenizer.is_some().then_some(GenerationShape {
                sequences: 1,
                context: shape.time.min(SAMPLE_CONTEXT),
                piece: 1,
            }),
        };
        let program = Program::record(&config, &parts, compute.binding_limit())?;
        Ok(Self { config, weights, batches, validation, tokenizer, program })
    }

    /// What the run will take.
    pub fn plan(&self, settings: &Settings) -> Plan {
        let schedule = &self.program.schedule;
        let flops = |phase| schedule.flops(phase);
        let parameters = self.config.parameter_count();
        let bytes = schedule.memory().bytes_by_role();
        // Weights and what the optimizer remembers, in f32; one checkpoint more than is kept while it is written.
        let checkpoint = parameters * 4 + bytes.get(&Role::Moment).copied().unwrap_or(0);
        let kept = match settings.train.keep_checkpoints {
            0 => settings.train.steps.checked_div(settings.train.checkpoint_every).unwrap_or(0) + 1,
            kept => kept as u64 + 1,
        } + u64::from(settings.train.keep_best && self.validation.is_some());
        Plan {
            parameters,
            bytes: bytes.into_iter().collect(),
            live_peak_bytes: schedule.memory().live_peak_bytes(),
            flops_per_step: flops(Phase::ForwardBackward) * settings.train.grad_accumulation as u64
                + flops(Phase::Begin)
                + flops(Phase::Update),
            disk_bytes: checkpoint * kept,
        }
    }
}

/// The data of a run, with the tokenizer that it began with, or the one that its settings name.
fn sources(settings: &Settings, known: Option<Tokenizer>) -> Result<Sources, TrainError> {
    let data = &settings.data;
    let tokenizer = match (known, &data.tokenizer, &settings.model.from) {
        (Some(known), _, _) => TokenizerChoice::Given(known),
        (None, Some(name), _) => match (name.path(), name.0.to_str()) {
            (Some(path), _) => TokenizerChoice::Given(Tokenizer::load(path)?),
            (None, Some("bytes")) => TokenizerChoice::Given(Tokenizer::bytes()),
            (None, _) => TokenizerChoice::Bpe,
        },
        (None, None, Some(folder)) => match Tokenizer::of_folder(folder)? {
            Some(tokenizer) => TokenizerChoice::Given(tokenizer),
            None => TokenizerChoice::AutoBytes,
        },
        (None, None, None) => TokenizerChoice::Auto,
    };
    Ok(Sources {
        train: data.train.clone(),
        valid: data.valid.clone(),
        tokenizer,
        text_field: data.text_field.clone(),
        bos: data.bos,
        strict: data.strict,
    })
}

fn model(settings: &Settings) -> Result<(ModelConfig, Weights), TrainError> {
    if let Some(folder) = &settings.model.from {
        let folder = checkpoint::resolve(folder)?;
        return Ok((read_config(&folder)?, Weights::Folder(folder)));
    }
    let json = settings.model_config_json().unwrap_or_default();
    let config = ModelConfig::from_value(&json)?;
    let init = settings
        .init
        .as_ref()
        .map_or(Init { scheme: InitScheme::Normal, std: 0.0 }, |init| Init { scheme: init.scheme, std: init.std });
    Ok((config, Weights::Initial { init, seed: settings.train.seed }))
}
