//! Causal attention of new positions to the keys and values that a cache holds of their sequences, their own included.
//! Forward only.

use evenkeel_schedule::{DType, Params, Recorder, Role, ScheduleError, TensorId};
use evenkeel_shaders::{attention_cached, rope_cache_write};

use super::AttentionShape;

/// Keys and values of one layer, each (B, S, KV, D).
#[derive(Clone, Copy, Debug)]
pub struct LayerCache {
    /// Keys, turned to their positions.
    pub k: TensorId,
    /// Values.
    pub v: TensorId,
}

/// Where the new positions stand.
#[derive(Clone, Copy, Debug)]
pub struct CachedRows {
    /// (R, 2), u32: sequence and position of every row. One outside the cache is padding.
    pub rows: TensorId,
    /// (S, D): cosines and sines of every position.
    pub angles: TensorId,
}

impl LayerCache {
    /// A cache for `shape.batch` sequences of `shape.time` positions.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn new(r: &mut Recorder, prefix: &str, shape: AttentionShape) -> Result<Self, ScheduleError> {
        let extents = [("B", shape.batch), ("S", shape.time), ("KV", shape.kv_heads), ("D", shape.head_size)];
        let mut tensor = |name: &str| r.new_tensor(&format!("{prefix}.{name}"), Role::Cache, DType::F32, &extents);
        Ok(Self { k: tensor("k")?, v: tensor("v")? })
    }
}

/// Stores k and v (R, KV*D) and records y (R, H*D) = softmax(q k^T / sqrt(D)) v over what the cache holds of each row's
/// sequence up to its position. `shape` has the cache's extents.
///
/// # Errors
/// Shapes that do not fit.
pub fn cached_attention(
    r: &mut Recorder,
    [q, k, v]: [TensorId; 3],
    cache: LayerCache,
    at: CachedRows,
    shape: AttentionShape,
) -> Result<TensorId, ScheduleError> {
    let AttentionShape { batch, time, heads, kv_heads, head_size } = shape;
    let rows = r.tensor(at.rows).len() / 2;
    let params =
        || Params::dims([("R", rows), ("B", batch), ("S", time), ("H", heads), ("KV", kv_heads), ("D", head_size)]);
    let q_rotated = r.activation("q_rotated", &[("R", rows), ("HD", heads * head_size)])?;
    let operands = [at.rows, q, k, v, at.angles, q_rotated, cache.k, cache.v].map(Into::into);
    r.run(&rope_cache_write::CARD, params(), &operands)?;
    let y = r.activation("y", &[("R", rows), ("HD", heads * head_size)])?;
    let operands = [at.rows, q_rotated, cache.k, cache.v, y].map(Into::into);
    r.run(&attention_cached::CARD, params().with_scalar("scale", shape.scale()), &operands)?;
    Ok(y)
}
