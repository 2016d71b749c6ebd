//! Evenkeel's training loop: optimizer, schedules, variance control, checkpoints, metrics, instruments, evaluation,
//! generation.

pub mod checkpoint;
pub mod difference;
pub mod export;
pub mod inspection;
pub mod largest;
pub mod learning_rate;
pub mod optimizer;
pub mod profile;
pub mod run_folder;
pub mod settings;
pub mod speed;
pub mod study;
pub mod tensor_file;

mod compute;
mod error;
mod evaluation;
mod event_file;
mod generation;
mod instruments;
mod metrics;
mod names;
mod non_finite;
mod pretrain;
mod program;
mod sampling;
mod segments;
mod setup;
mod state;
mod stop_strings;
mod trainer;
mod tvr;
mod unique_keys;

pub use compute::{Compute, ComputeName, Executor, Late};
pub use error::TrainError;
pub use evaluation::{Evaluation, evaluate, fixed_set};
pub use generation::{End, Generation, MOST_SEQUENCES, PIECE, Reader, Speed, generate};
pub use instruments::{Instruments, Measurement, StreamStatistics, WeightStatistics};
pub use metrics::{EvaluationRow, StepRow};
pub use pretrain::{Destination, Event, MOST_SKIPPED, Summary, Watch, pretrain};
pub use program::{Program, ProgramParts, RecordedTraining, TrainingPart};
pub use sampling::{Sampler, Sampling};
pub use setup::{Plan, Setup, Weights};
pub use state::{Identity, Point, damaged, restore, save};
pub use stop_strings::StopStrings;
pub use trainer::{HostTime, StepRecord, Trainer};
pub use tvr::Tvr;
