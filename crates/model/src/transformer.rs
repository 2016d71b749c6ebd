//! The decoder that all models share, as Hugging Face's LlamaForCausalLM computes it (Touvron et al. 2023): pre-norm
//! blocks of grouped-query attention with rotary positions and an MLP, no biases, the head tied to the embedding or
//! not. The MLP is `llama.rs`'s or `kat.rs`'s.

use evenkeel_schedule::{DType, Dim, ParameterDecl, Params, Phase, Recorder, Role, ScheduleError, TensorId};
use evenkeel_shaders::{rope_fwd, scale_by};

use crate::{
    Arch, ModelConfig, ParameterKind, ParameterSpec, kat,
    layers::{
        AttentionShape, LossTensors, Residual, RopeTables, TokenBatch, attention, embedding, linear, linear_to_stream,
        next_token_loss, rms_norm, rope,
    },
    llama,
};

/// Extents of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Sequences.
    pub batch: usize,
    /// Tokens of each.
    pub time: usize,
}

impl BatchShape {
    /// Tokens in all: `R`.
    pub fn rows(self) -> usize {
        self.batch * self.time
    }
}

/// Rotary tables with their values, for the host to write once.
#[derive(Clone, Debug)]
pub struct RopeConstants {
    /// Tensors.
    pub tables: RopeTables,
    /// Values of cos, (T, D/2).
    pub cos: Vec<f32>,
    /// Values of sin, (T, D/2).
    pub sin: Vec<f32>,
}

/// Tensors of the training phases that the host writes or reads.
#[derive(Clone, Debug)]
pub struct TrainingTensors {
    /// Input ids (R) with their index by token: rows by token (R), first position of each token (V).
    pub tokens: TokenBatch,
    /// Target ids, losses (R), and each row's weight in the loss (R).
    pub loss: LossTensors,
    /// Rotary tables.
    pub rope: RopeConstants,
}

/// Tensors of the evaluation phase.
#[derive(Clone, Debug)]
pub struct EvaluationTensors {
    /// Input ids (R).
    pub tokens: TokenBatch,
    /// Target ids and losses (R).
    pub loss: LossTensors,
    /// Rotary tables.
    pub rope: RopeConstants,
}

/// The parameters for the recorder, all trainable.
pub fn declarations(config: &ModelConfig) -> Vec<ParameterDecl> {
    let declaration = |spec: ParameterSpec| {
        let letters: &[&'static str] = match spec.kind {
            ParameterKind::Embedding | ParameterKind::Head => &["V", "C"],
            ParameterKind::Norm => &["C"],
            ParameterKind::Matrix { .. } => &["N", "K"],
            ParameterKind::Numerator(_) => &["G", "P"],
            ParameterKind::Denominator(_) => &["G", "Q"],
        };
        let shape = letters.iter().zip(&spec.shape).map(|(&name, &extent)| Dim { name, extent }).collect();
        ParameterDecl { decayed: spec.is_matrix(), name: spec.name, shape, trainable: true }
    };
    config.parameters().into_iter().map(declaration).collect()
}

/// The copies in half precision that mixed training reads: of all matrices, and of what the output head is.
///
/// # Errors
/// None that a recorder gives whose parameters were placed for it.
pub fn record_half_copies(r: &mut Recorder, config: &ModelConfig) -> Result<(), ScheduleError> {
    let specs = config.parameters();
    let read = |spec: &ParameterSpec| match spec.kind {
        ParameterKind::Matrix { .. } | ParameterKind::Head => true,
        ParameterKind::Embedding => config.tie_word_embeddings,
        _ => false,
    };
    r.half_copies(|name| specs.iter().any(|spec| spec.name == name && read(spec)))?;
    r.scope("half_copies", Recorder::copy_parameters)
}

/// Records forward and backward of one micro-batch in [`Phase::ForwardBackward`].
///
/// With a `loss_scale` (2), whose first number the loss's gradient is multiplied by, activations and the operands of
/// matrix products are in half precision, but for the residual stream and its gradient; [`record_half_copies`] comes
/// before.
///
/// # Errors
/// Shapes that do not fit, tensors beyond the binding limit.
pub fn record_training(
    r: &mut Recorder,
    config: &ModelConfig,
    shape: BatchShape,
    loss_scale: Option<TensorId>,
) -> Result<TrainingTensors, ScheduleError> {
    let rows = shape.rows();
    let order = batch_tensor(r, "batch.rows_by_token", &[("R", rows)])?;
    let start = batch_tensor(r, "batch.token_starts", &[("V", config.vocab_size)])?;
    let ids = batch_tensor(r, "batch.tokens", &[("R", rows)])?;
    let tokens = TokenBatch { ids, by_token: Some((order, start)) };
    let loss = LossTensors {
        targets: batch_tensor(r, "batch.targets", &[("R", rows)])?,
        losses: r.new_tensor("losses", Role::State, DType::F32, &[("R", rows)])?,
        weights: Some(r.new_tensor("loss_weights", Role::Constant, DType::F32, &[("R", rows)])?),
    };
    let rope = rope_constants(r, config, "train", shape.time)?;
    r.begin_phase(Phase::ForwardBackward)?;
    r.set_storage(if loss_scale.is_some() { DType::F16 } else { DType::F32 });
    let x = backbone(r, config, tokens, rope.tables, shape)?;
    let head = head(r, config)?;
    r.scope("loss", |r| {
        let weights = match (loss.weights, loss_scale) {
            (Some(weights), Some(loss_scale)) => Some(scaled(r, weights, loss_scale)?),
            (weights, _) => weights,
        };
        next_token_loss(r, x, head, LossTensors { weights, ..loss })
    })?;
    r.backward()?;
    r.set_storage(DType::F32);
    Ok(TrainingTensors { tokens, loss, rope })
}

/// Records the losses of one evaluation batch in [`Phase::Evaluate`].
///
/// # Errors
/// As [`record_training`].
pub fn record_evaluation(
    r: &mut Recorder,
    config: &ModelConfig,
    shape: BatchShape,
) -> Result<EvaluationTensors, ScheduleError> {
    let rows = shape.rows();
    let tokens = TokenBatch { ids: batch_tensor(r, "evaluate.tokens", &[("R", rows)])?, by_token: None };
    let loss = LossTensors {
        targets: batch_tensor(r, "evaluate.targets", &[("R", rows)])?,
        losses: r.new_tensor("evaluate.losses", Role::State, DType::F32, &[("R", rows)])?,
        weights: None,
    };
    let rope = rope_constants(r, config, "evaluate", shape.time)?;
    r.begin_phase(Phase::Evaluate)?;
    let x = backbone(r, config, tokens, rope.tables, shape)?;
    let head = head(r, config)?;
    r.scope("loss", |r| next_token_loss(r, x, head, loss))?;
    Ok(EvaluationTensors { tokens, loss, rope })
}

/// Records y (N) = x (N) times what lies first in `factor`.
fn scaled(r: &mut Recorder, x: TensorId, factor: TensorId) -> Result<TensorId, ScheduleError> {
    let len = r.tensor(x).len();
    let y = r.activation("weights", &[("R", len)])?;
    r.run(&scale_by::CARD, Params::dims([("N", len)]), &[x.into(), factor.into(), y.into()])?;
    Ok(y)
}

/// A tensor of ids or indices that the host writes.
pub(crate) fn batch_tensor(
    r: &mut Recorder,
    name: &str,
    shape: &[(&'static str, usize)],
) -> Result<TensorId, ScheduleError> {
    r.new_tensor(name, Role::Batch, DType::U32, shape)
}

fn rope_constants(
    r: &mut Recorder,
    config: &ModelConfig,
    prefix: &str,
    time: usize,
) -> Result<RopeConstants, ScheduleError> {
    let half = config.head_dim / 2;
    let shape = [("T", time), ("D", half)];
    let tables = RopeTables {
        cos: r.new_tensor(&format!("{prefix}.rope.cos"), Role::Constant, DType::F32, &shape)?,
        sin: r.new_tensor(&format!("{prefix}.rope.sin"), Role::Constant, DType::F32, &shape)?,
    };
    let (cos, sin) = rope_fwd::tables(time, config.head_dim, config.rope_theta);
    Ok(RopeConstants { tables, cos, sin })
}

/// The output head: of its own, or the embedding.
pub(crate) fn head(r: &Recorder, config: &ModelConfig) -> Result<TensorId, ScheduleError> {
    r.find(if config.tie_word_embeddings { "model.embed_tokens.weight" } else { "lm_head.weight" })
}

/// Records the residual stream (R, C) of the training batch in the current phase: after the embedding, then after each
/// layer.
///
/// # Errors
/// As [`record_training`].
pub fn record_streams(
    r: &mut Recorder,
    config: &ModelConfig,
    training: &TrainingTensors,
    shape: BatchShape,
) -> Result<Vec<TensorId>, ScheduleError> {
    let tokens = TokenBatch { by_token: None, ..training.tokens };
    streams(r, config, tokens, &mut attend_batch(config, training.rope.tables, shape))
}

/// From ids to the final norm's output (R, C).
fn backbone(
    r: &mut Recorder,
    config: &ModelConfig,
    tokens: TokenBatch,
    tables: RopeTables,
    shape: BatchShape,
) -> Result<TensorId, ScheduleError> {
    let streams = streams(r, config, tokens, &mut attend_batch(config, tables, shape))?;
    let w = r.find("model.norm.weight")?;
    r.scope("norm", |r| rms_norm(r, streams[config.num_hidden_layers], w, config.rms_norm_eps as f32))
}

/// Records the attention of a layer: from q (R, H*D), k and v (R, KV*D) to y (R, H*D).
pub(crate) type Attend<'a> = dyn FnMut(&mut Recorder, usize, [TensorId; 3]) -> Result<TensorId, ScheduleError> + 'a;

/// Attention among the positions of a batch's sequences.
fn attend_batch(
    config: &ModelConfig,
    tables: RopeTables,
    shape: BatchShape,
) -> impl FnMut(&mut Recorder, usize, [TensorId; 3]) -> Result<TensorId, ScheduleError> {
    let BatchShape { batch, time } = shape;
    let (heads, kv_heads, head_size) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
    move |r, _, [q, k, v]| {
        let q = rope(r, "q_rotated", q, tables, [batch, time, heads, head_size])?;
        let k = rope(r, "k_rotated", k, tables, [batch, time, kv_heads, head_size])?;
        attention(r, q, k, v, AttentionShape { batch, time, heads, kv_heads, head_size })
    }
}

/// From ids to the residual stream (R, C): after the embedding, then after each layer.
pub(crate) fn streams(
    r: &mut Recorder,
    config: &ModelConfig,
    tokens: TokenBatch,
    attend: &mut Attend<'_>,
) -> Result<Vec<TensorId>, ScheduleError> {
    let eps = config.rms_norm_eps as f32;
    let w = r.find("model.embed_tokens.weight")?;
    let mut stream = Residual::new(r.scope("embed_tokens", |r| embedding(r, tokens, w))?);
    let mut streams = Vec::new();
    for layer in 0..config.num_hidden_layers {
        r.scope(&format!("layers.{layer}"), |r| {
            let block = Block { prefix: format!("model.layers.{layer}."), eps };
            r.scope("self_attn", |r| {
                let x = block.norm(r, "input_layernorm", &mut stream)?;
                streams.push(stream.tensor(r)?);
                let y = block.attention(r, x, layer, attend)?;
                stream.add(r, y)
            })?;
            r.scope("mlp", |r| {
                let x = block.norm(r, "post_attention_layernorm", &mut stream)?;
                let y = match &config.arch {
                    Arch::Llama => llama::mlp(r, &block, x)?,
                    Arch::Kat(rational) => kat::mlp(r, &block, rational, x)?,
                };
                stream.add(r, y)
            })
        })?;
    }
    streams.push(r.scope("residual", |r| stream.tensor(r))?);
    Ok(streams)
}

/// One layer of the decoder.
pub(crate) struct Block {
    prefix: String,
    eps: f32,
}

impl Block {
    /// The layer's parameter called `name`.
    pub(crate) fn parameter(&self, r: &Recorder, name: &str) -> Result<TensorId, ScheduleError> {
        r.find(&format!("{}{name}", self.prefix))
    }

    /// The weight of the layer's module called `name`.
    pub(crate) fn weight(&self, r: &Recorder, name: &str) -> Result<TensorId, ScheduleError> {
        self.parameter(r, &format!("{name}.weight"))
    }

    fn norm(&self, r: &mut Recorder, name: &str, stream: &mut Residual) -> Result<TensorId, ScheduleError> {
        let w = self.weight(r, name)?;
        r.scope("norm", |r| stream.rms_norm(r, w, self.eps))
    }

    fn attention(
        &self,
        r: &mut Recorder,
        x: TensorId,
        layer: usize,
        attend: &mut Attend<'_>,
    ) -> Result<TensorId, ScheduleError> {
        let project = |r: &mut Recorder, name: &str| {
            let w = self.weight(r, &format!("self_attn.{name}_proj"))?;
            linear(r, name, x, w, "HD")
        };
        let qkv = [project(r, "q")?, project(r, "k")?, project(r, "v")?];
        let y = attend(r, layer, qkv)?;
        let w = self.weight(r, "self_attn.o_proj")?;
        linear_to_stream(r, "o", y, w)
    }
}
