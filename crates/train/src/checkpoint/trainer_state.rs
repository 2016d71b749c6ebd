//! What a checkpoint knows beside its tensors: `trainer.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{CheckpointError, excerpt};
use crate::{settings::Order, tensor_file::read_text};

/// The only version of the checkpoint format so far.
pub const FORMAT_VERSION: u32 = 1;

const MAX_STATE: u64 = 1 << 20;

/// The state of a training run after `step` steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Version of the checkpoint's format, [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Version of the engine that wrote it.
    pub engine_version: String,
    /// Name of the adapter it was computed on.
    pub adapter: String,
    /// That adapter's driver.
    pub driver: String,
    /// That adapter's backend.
    pub backend: String,
    /// Steps done, from 1.
    pub step: u64,
    /// Updates applied: the steps done less those skipped for a gradient that was not finite.
    pub applied_steps: u64,
    /// Tokens consumed; with the seed it determines the next batch.
    pub data_position: u64,
    /// The run's seed.
    pub seed: u64,
    /// How text became tokens.
    pub tokenizer: Tokenizer,
    /// Fingerprint of the training data; none in a checkpoint of an engine that knew of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Which tokens a step reads; none in a checkpoint of an engine that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<Batches>,
    /// Whether it stands here for its validation loss alone, between the checkpoints that were due: it goes when a
    /// lower loss comes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_as_best: bool,
    /// The lowest validation loss up to here, if the run keeps its checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

/// The settings that, with the seed, decide which tokens a step reads. A run that went on with others would read some
/// twice and pass over some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batches {
    /// `data.order`.
    pub order: Order,
    /// `train.batch_size`.
    pub batch_size: usize,
    /// `train.grad_accumulation`.
    pub grad_accumulation: usize,
    /// `train.seq_len`.
    pub seq_len: usize,
}

/// The lowest validation loss of a run so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The step after which it was measured, and whose checkpoint has the weights.
    pub step: u64,
    /// Mean loss, in nats per token.
    pub valid_loss: f64,
}

/// How a run's text became tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokenizer {
    /// Every UTF-8 byte is a token.
    Bytes,
    /// As the `tokenizer.json` of the checkpoint says.
    #[serde(rename = "tokenizer.json")]
    File,
    /// The data came as tokens.
    None,
}

impl TrainerState {
    /// Reads a `trainer.json`.
    ///
    /// # Errors
    /// A file that cannot be read, is of another format version, or lacks a field.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let text = read_text(path, MAX_STATE)?;
        let malformed =
            |e: serde_json::Error| CheckpointError::malformed(path, "a trainer state in JSON", excerpt(&e.to_string()));
        let value: Value = serde_json::from_str(&text).map_err(malformed)?;
        // The version first: another one may have other fields.
        let version = value.get("format_version").unwrap_or(&Value::Null);
        if *version != FORMAT_VERSION {
            return Err(CheckpointError::malformed(
                path,
                format!("format_version {FORMAT_VERSION}"),
                excerpt(&version.to_string()),
            ));
        }
        serde_json::from_value(value).map_err(malformed)
    }
}
