//! Causal attention with grouped queries, in tiles: only the log-sum-exp of each row is kept, and the backward computes
//! the scores again (Dao 2023, FlashAttention-2), so memory is O(T).

use evenkeel_schedule::{Operand::GradientTo, Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::{attention_bwd_delta, attention_bwd_kv, attention_bwd_q, attention_fwd};

/// Extents of an attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Sequences.
    pub batch: usize,
    /// Positions.
    pub time: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Size of a head.
    pub head_size: usize,
}

impl AttentionShape {
    /// What scores are multiplied by: 1 / sqrt(D).
    pub(super) fn scale(self) -> f32 {
        (1.0 / (self.head_size as f64).sqrt()) as f32
    }

    fn params(self) -> Params {
        Params::dims([
            ("B", self.batch),
            ("T", self.time),
            ("H", self.heads),
            ("KV", self.kv_heads),
            ("D", self.head_size),
            ("causal", 1),
        ])
        .with_scalar("scale", self.scale())
    }
}

/// Records y (B*T, H*D) = softmax(q k^T / sqrt(D)) v for q (B, T, H, D), k and v (B, T, KV, D).
///
/// # Errors
/// Shapes that do not fit.
pub fn attention(
    r: &mut Recorder,
    q: TensorId,
    k: TensorId,
    v: TensorId,
    shape: AttentionShape,
) -> Result<TensorId, ScheduleError> {
    let AttentionShape { batch, time, heads, head_size, .. } = shape;
    let y = r.stored("y", &[("R", batch * time), ("HD", heads * head_size)])?;
    let lse = r.activation("lse", &[("B", batch), ("H", heads), ("T", time)])?;
    r.run(&attention_fwd::CARD, shape.params(), &[q.into(), k.into(), v.into(), y.into(), lse.into()])?;
    r.on_backward(&[y], move |r| {
        let dy = r.gradient_of(y)?;
        let delta = r.scratch("delta", &[("B", batch), ("H", heads), ("T", time)])?;
        let dims = Params::dims([("B", batch), ("T", time), ("H", heads), ("D", head_size)]);
        r.run(&attention_bwd_delta::CARD, dims, &[y.into(), dy.into(), delta.into()])?;
        let inputs = [q, k, v, dy, lse, delta].map(Into::into);
        let with = |outputs: &[TensorId]| {
            inputs.iter().copied().chain(outputs.iter().map(|&x| GradientTo(x))).collect::<Vec<_>>()
        };
        r.run(&attention_bwd_q::CARD, shape.params(), &with(&[q]))?;
        r.run(&attention_bwd_kv::CARD, shape.params(), &with(&[k, v]))
    });
    Ok(y)
}
