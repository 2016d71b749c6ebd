//! The forward of generation, with a cache of every layer's keys and values: one phase takes a piece of one sequence's
//! prompt, the other one token of every sequence. What varies from run to run (sequences, positions) is read from a tensor, so
//! both are recorded once.

use evenkeel_schedule::{DType, Phase, Recorder, Role, ScheduleError, TensorId};
use evenkeel_shaders::{attention_cached, rope_cache_write};

use crate::{
    ModelConfig,
    layers::{
        AttentionShape, CachedRows, LayerCache, TokenBatch, cached_attention, embedding, next_token_logits, rms_norm,
    },
    transformer::{batch_tensor, head, streams},
};

/// Extents of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationShape {
    /// Sequences that are continued at the same time: B.
    pub sequences: usize,
    /// Positions that the cache holds of each: S.
    pub context: usize,
    /// Positions of a piece of a prompt.
    pub piece: usize,
}

/// What the host writes and reads in one of the two phases.
#[derive(Clone, Copy, Debug)]
pub struct GenerationStep {
    /// Token ids (R).
    pub tokens: TensorId,
    /// (R, 2), u32: sequence and position of every token. A sequence from B on marks padding.
    pub rows: TensorId,
    /// Logits of the token after each chosen row, (rows, V); rows are [`GenerationTensors::logits_stride`] apart.
    pub logits: TensorId,
}

/// Tensors of the generation phases.
#[derive(Clone, Debug)]
pub struct GenerationTensors {
    /// The extents.
    pub shape: GenerationShape,
    /// Of [`Phase::Prefill`]; its logits are those of one row.
    pub prefill: GenerationStep,
    /// The row whose logits the prefill computes (1), u32.
    pub last: TensorId,
    /// Of [`Phase::Decode`]: one row of every sequence, its logits of all of them.
    pub decode: GenerationStep,
    /// Elements between rows of logits: V, in whole vec4s.
    pub logits_stride: usize,
    /// Rotary angles (S, D), to be written once.
    pub angles: TensorId,
    /// Their values.
    pub angle_values: Vec<f32>,
}

/// Most positions that a cache may have: those of the model, of the attention kernel, and of one binding.
pub fn most_positions(config: &ModelConfig, sequences: usize, binding_limit: u64) -> usize {
    let position = sequences * config.num_key_value_heads * config.head_dim * DType::F32.size();
    let bound = usize::try_from(binding_limit).unwrap_or(usize::MAX) / position;
    config.max_position_embeddings.min(attention_cached::most_positions(config.head_dim)).min(bound)
}

/// Records [`Phase::Prefill`] and [`Phase::Decode`].
///
/// # Errors
/// Shapes that do not fit, tensors beyond the binding limit.
pub fn record_generation(
    r: &mut Recorder,
    config: &ModelConfig,
    shape: GenerationShape,
) -> Result<GenerationTensors, ScheduleError> {
    let GenerationShape { sequences, context, piece } = shape;
    let extents = AttentionShape {
        batch: sequences,
        time: context,
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads,
        head_size: config.head_dim,
    };
    let cache = |layer| LayerCache::new(r, &format!("cache.layers.{layer}"), extents);
    let caches = (0..config.num_hidden_layers).map(cache).collect::<Result<Vec<_>, _>>()?;
    let angles =
        r.new_tensor("generate.angles", Role::Constant, DType::F32, &[("S", context), ("D", config.head_dim)])?;
    let recording = Recording { config, extents, caches, angles };
    let last = batch_tensor(r, "prefill.last", &[("R", 1)])?;
    let prefill = recording.step(r, Phase::Prefill, piece, Some(last))?;
    let decode = recording.step(r, Phase::Decode, sequences, None)?;
    let angle_values = rope_cache_write::angles(context, config.head_dim, config.rope_theta);
    let logits_stride = stride(config);
    Ok(GenerationTensors { shape, prefill, last, decode, logits_stride, angles, angle_values })
}

fn stride(config: &ModelConfig) -> usize {
    config.vocab_size.next_multiple_of(4)
}

/// What both phases share.
struct Recording<'a> {
    config: &'a ModelConfig,
    extents: AttentionShape,
    caches: Vec<LayerCache>,
    angles: TensorId,
}

impl Recording<'_> {
    /// Records a phase of so many rows, to the logits of the row that `chosen` names or of all.
    fn step(
        &self,
        r: &mut Recorder,
        phase: Phase,
        rows: usize,
        chosen: Option<TensorId>,
    ) -> Result<GenerationStep, ScheduleError> {
        let Self { config, extents, caches, angles } = self;
        let tokens = batch_tensor(r, &format!("{phase}.tokens"), &[("R", rows)])?;
        let places = batch_tensor(r, &format!("{phase}.rows"), &[("R", rows), ("N", 2)])?;
        let logits_rows = if chosen.is_some() { 1 } else { rows };
        let logits = [("R", logits_rows), ("V", stride(config))];
        let logits = r.new_tensor(&format!("{phase}.logits"), Role::State, DType::F32, &logits)?;
        r.begin_phase(phase)?;
        let at = CachedRows { rows: places, angles: *angles };
        let ids = TokenBatch { ids: tokens, by_token: None };
        let mut attend = |r: &mut Recorder, layer: usize, qkv| cached_attention(r, qkv, caches[layer], at, *extents);
        let mut x = streams(r, config, ids, &mut attend)?[config.num_hidden_layers];
        if let Some(chosen) = chosen {
            x = r.scope("last", |r| embedding(r, TokenBatch { ids: chosen, by_token: None }, x))?;
        }
        let w = r.find("model.norm.weight")?;
        let x = r.scope("norm", |r| rms_norm(r, x, w, config.rms_norm_eps as f32))?;
        let head = head(r, config)?;
        r.scope("logits", |r| next_token_logits(r, x, head, logits))?;
        Ok(GenerationStep { tokens, rows: places, logits })
    }
}
