//! Evenkeel's training loop: optimizer, schedules, checkpoints, metrics, evaluation, generation.

pub mod checkpoint;
pub mod difference;
pub mod learning_rate;
pub mod optimizer;
pub mod run_folder;
pub mod settings;
pub mod study;
pub mod tensor_file;

mod compute;
mod error;
mod evaluation;
mod generation;
mod pretrain;
mod program;
mod setup;
mod trainer;

pub use compute::{Compute, ComputeName, Executor};
pub use error::TrainError;
pub use evaluation::{Evaluation, evaluate, fixed_set};
pub use generation::{Sampling, generate};
pub use pretrain::{Destination, EvaluationRow, Event, StepRow, Summary, Watch, pretrain};
pub use program::{Program, ProgramParts, TrainingPart};
pub use setup::{Plan, Setup, Weights};
pub use trainer::{StepRecord, Trainer};
