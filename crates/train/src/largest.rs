//! The largest model that trains in so much memory. It is planned, not tried: nothing is allocated.

use evenkeel_schedule::ScheduleError;

use crate::{
    Compute, Setup, TrainError,
    settings::{Settings, Sources},
};

/// Channels of a head, and more channels for every layer: the proportions of the presets from m on.
const CHANNELS: u32 = 64;
/// Tokens that the models know.
const VOCABULARY: u32 = 32_000;

/// A model and what training it takes: a LLaMA with 64 channels for every layer and in every head, an MLP of 8/3 the
/// channels in multiples of 64, an untied head and 32,000 tokens, in f32, with all that a run does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedModel {
    /// Layers, L.
    pub layers: u32,
    /// Channels, C.
    pub hidden_size: u32,
    /// Number of parameters.
    pub parameters: u64,
    /// Planned bytes.
    pub planned_bytes: u64,
}

/// The models of the family that take at most `most` bytes with batches of `batch_size` sequences of `seq_len` tokens,
/// from the smallest, as far as every tensor fits into one of the device's bindings.
///
/// # Errors
/// None but those of a faulty recording.
pub fn models(compute: &Compute, batch_size: u32, seq_len: u32, most: u64) -> Result<Vec<PlannedModel>, TrainError> {
    let mut models = Vec::new();
    for layers in 1.. {
        match plan(compute, layers, batch_size, seq_len) {
            Ok(model) if model.planned_bytes <= most => models.push(model),
            Ok(_) | Err(TrainError::Schedule(ScheduleError::TooLarge { .. })) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(models)
}

fn plan(compute: &Compute, layers: u32, batch_size: u32, seq_len: u32) -> Result<PlannedModel, TrainError> {
    let hidden_size = CHANNELS * layers;
    let values = [
        ("model.hidden_size", hidden_size),
        ("model.intermediate_size", (hidden_size * 8 / 3).next_multiple_of(CHANNELS)),
        ("model.num_hidden_layers", layers),
        ("model.num_attention_heads", layers),
        ("model.num_key_value_heads", layers),
        ("model.vocab_size", VOCABULARY),
        ("model.max_position_embeddings", seq_len),
        ("train.seq_len", seq_len),
        ("train.batch_size", batch_size),
    ];
    let set = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let settings = Settings::resolve(&Sources { set, ..Sources::default() })?;
    let setup = Setup::new(&settings, compute)?;
    let planned_bytes = setup.program.schedule.memory().total_bytes();
    Ok(PlannedModel { layers, hidden_size, parameters: setup.config.parameter_count(), planned_bytes })
}
