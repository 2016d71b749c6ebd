//! Rotary position embedding (Su et al. 2021) in Hugging Face's rotate-half layout.

use evenkeel_schedule::{Operand::GradientTo, Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::{rope_bwd, rope_fwd, rope_joined_bwd, rope_joined_fwd};

use super::AttentionShape;

/// Tables made on the host, each (T, D/2): software drivers' sines are too coarse.
#[derive(Clone, Copy, Debug)]
pub struct RopeTables {
    /// cos(t * theta^(-2i/D)).
    pub cos: TensorId,
    /// sin of the same.
    pub sin: TensorId,
}

/// Records the rotation of x (B*T, heads*D). `shape` is (B, T, heads, D).
///
/// # Errors
/// Shapes that do not fit.
pub fn rope(
    r: &mut Recorder,
    name: &str,
    x: TensorId,
    tables: RopeTables,
    shape: [usize; 4],
) -> Result<TensorId, ScheduleError> {
    let [batch, time, heads, size] = shape;
    let y = r.stored(name, &[("B", batch), ("T", time), ("H", heads), ("D", size)])?;
    let params = move || Params::dims([("B", batch), ("T", time), ("H", heads), ("D", size)]);
    r.run(&rope_fwd::CARD, params(), &[x.into(), tables.cos.into(), tables.sin.into(), y.into()])?;
    r.on_backward(&[y], move |r| {
        let dy = r.gradient_of(y)?;
        r.run(&rope_bwd::CARD, params(), &[dy.into(), tables.cos.into(), tables.sin.into(), GradientTo(x)])
    });
    Ok(y)
}

/// Records what attention reads of qkv (B*T, (H+2KV)*D), rows of queries, keys and values: q (B, T, H, D) and k (B, T, KV, D),
/// both turned, and v (B, T, KV, D).
///
/// # Errors
/// Shapes that do not fit.
pub fn rope_joined(
    r: &mut Recorder,
    qkv: TensorId,
    tables: RopeTables,
    shape: AttentionShape,
) -> Result<[TensorId; 3], ScheduleError> {
    let AttentionShape { batch, time, heads, kv_heads, head_size } = shape;
    let params = move || Params::dims([("B", batch), ("T", time), ("H", heads), ("KV", kv_heads), ("D", head_size)]);
    let extents = |heads| [("B", batch), ("T", time), heads, ("D", head_size)];
    let q = r.stored("q_rotated", &extents(("H", heads)))?;
    let k = r.stored("k_rotated", &extents(("KV", kv_heads)))?;
    let v = r.stored("v", &extents(("KV", kv_heads)))?;
    let operands = [qkv, tables.cos, tables.sin, q, k, v].map(Into::into);
    r.run(&rope_joined_fwd::CARD, params(), &operands)?;
    r.on_backward(&[q, k, v], move |r| {
        let [dq, dk, dv] = [r.gradient_of(q)?, r.gradient_of(k)?, r.gradient_of(v)?];
        let operands = [dq.into(), dk.into(), dv.into(), tables.cos.into(), tables.sin.into(), GradientTo(qkv)];
        r.run(&rope_joined_bwd::CARD, params(), &operands)
    });
    Ok([q, k, v])
}
