//! What can go wrong in this crate. Every message is one line.

use std::path::PathBuf;

use crate::checkpoint::error::CheckpointError;

/// An error of the training crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file or folder that cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A text file that is not UTF-8.
    #[error("{}: expected UTF-8 text, got another byte at offset {offset}", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that is not UTF-8.
        offset: usize,
    },
    /// A run file that is not TOML.
    #[error("{}: line {line}: not TOML: {reason}", path.display())]
    NotToml {
        /// The run file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser expected.
        reason: String,
    },
    /// A section or key that the run file does not have.
    #[error("{name}: no such {what}, the nearest is {nearest} ({origin})")]
    UnknownSetting {
        /// The name as it was given.
        name: String,
        /// `section` or `key`.
        what: &'static str,
        /// The nearest name that exists.
        nearest: String,
        /// Where it was given: the run file, or the option of the command line.
        origin: String,
    },
    /// A setting with a value of the wrong type, out of its range, or at odds with another one.
    #[error("{name}: expected {expected}, got {got} ({origin})")]
    Setting {
        /// The key, as `section.key`.
        name: String,
        /// What the key accepts.
        expected: String,
        /// The value as it was given.
        got: String,
        /// Where it was given: the run file, the option of the command line, the preset, or the default.
        origin: String,
    },
    /// Settings that TOML cannot hold: a path that is not UTF-8, an integer of 2^63 or more.
    #[error("settings: expected values that a run file can hold, got: {reason}")]
    SettingsFormat {
        /// What cannot be written or read.
        reason: String,
    },
    /// A schedule that cannot be recorded.
    #[error(transparent)]
    Schedule(#[from] evenkeel_schedule::ScheduleError),
    /// A fault of the device.
    #[error(transparent)]
    Gpu(#[from] evenkeel_gpu::GpuError),
    /// A fault of the data.
    #[error(transparent)]
    Data(#[from] evenkeel_data::DataError),
    /// A fault of a checkpoint or run folder.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A fault of the model's shape.
    #[error(transparent)]
    Model(#[from] evenkeel_model::ModelError),
    /// A program that was recorded without what is asked of it.
    #[error("program: expected one recorded with {part}, got one without")]
    Program {
        /// Training, evaluation or generation.
        part: &'static str,
    },
    /// A record that was asked for without a step.
    #[error("trainer: expected a step that has begun, got none")]
    NoStep,
    /// A trainer that is asked for more after an error.
    #[error("trainer: expected none after an error, got another call; a new one goes on from the last checkpoint")]
    Failed,
    /// A step that the device calls done although its last kernel did not run.
    #[error("step {step}: expected its number in the metrics record, got {got}: the device did not finish the step")]
    Incomplete {
        /// The step.
        step: u64,
        /// What stands there.
        got: f32,
    },
    /// A loss that is not finite.
    #[error("step {step}: expected a finite loss, got {loss}; first tensor that is not finite: {first}; {hint}")]
    NonFinite {
        /// The step.
        step: u64,
        /// The loss.
        loss: f64,
        /// Tensor and kernel.
        first: String,
        /// How to go on.
        hint: String,
    },
    /// Gradients that stay non-finite, or are so in the last step.
    #[error("step {step}: expected a finite gradient norm, got {} without; {hint}", in_a_row(*skipped))]
    NonFiniteNorm {
        /// The step.
        step: u64,
        /// Steps whose update was skipped.
        skipped: u64,
        /// How to go on.
        hint: String,
    },
    /// A parameter that is not finite after an update.
    #[error("{name}: expected finite weights, got another at element {index}; {hint}")]
    NonFiniteParameter {
        /// Parameter.
        name: String,
        /// Element.
        index: usize,
        /// How to go on.
        hint: String,
    },
    /// Logits that are not finite.
    #[error("logits: expected finite numbers, got {got}: the model's weights are broken")]
    Logits {
        /// One of them.
        got: f32,
    },
    /// A prompt that cannot be continued.
    #[error("prompt {number}: expected {expected}, got {got}")]
    Prompt {
        /// From 1.
        number: usize,
        /// What is right.
        expected: String,
        /// What there is.
        got: String,
    },
    /// A checkpoint of another run.
    #[error("{}: {what}: expected {expected}, got {got}{hint}", path.display())]
    Resume {
        /// Checkpoint.
        path: PathBuf,
        /// The fact.
        what: &'static str,
        /// By the run.
        expected: String,
        /// By the checkpoint.
        got: String,
        /// The next step, if there is one.
        hint: String,
    },
    /// A newest checkpoint that cannot be read, in a run that has an older one.
    #[error("{source}; move {} away to go on after step {older}", checkpoint.display())]
    Damaged {
        /// What is wrong with it.
        source: Box<Self>,
        /// Its folder.
        checkpoint: PathBuf,
        /// The step of the older one.
        older: u64,
    },
    /// A fault of an arm of a study.
    #[error("arm {arm}: {source}")]
    Arm {
        /// Its name.
        arm: String,
        /// The fault.
        source: Box<Self>,
    },
    /// A fault of one run of a study.
    #[error("arm {arm}, seed {seed}: {source}")]
    StudyRun {
        /// Name of its arm.
        arm: String,
        /// Its seed.
        seed: u64,
        /// The fault.
        source: Box<Self>,
    },
    /// A run of a study that was begun with other settings.
    #[error(
        "{key}: expected {expected} as the study has it, got {got} in a run that has begun ({}); \
         take another --out, or remove that folder", path.display()
    )]
    StudyChanged {
        /// Folder of the run.
        path: PathBuf,
        /// First key that differs, as `section.key`.
        key: String,
        /// The study's value.
        expected: String,
        /// The run's value.
        got: String,
    },
    /// Memory that does not suffice.
    #[error(
        "memory: expected at most the {free} bytes that are free, got a plan of {planned}; a smaller batch_size fits"
    )]
    Memory {
        /// Planned.
        planned: u64,
        /// Free.
        free: u64,
    },
}

/// Steps, as a text.
fn in_a_row(steps: u64) -> String {
    if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps in a row") }
}

impl TrainError {
    /// `error` of writing or reading settings, on one line.
    pub(crate) fn settings_format(error: impl std::fmt::Display) -> Self {
        Self::SettingsFormat { reason: error.to_string().trim().replace('\n', " ") }
    }
}
