//! Layers: each records its forward and, beside it, the closure that records its backward. None knows who else uses
//! its input: adding up gradients is the recorder's business.

mod attention;
mod cached_attention;
mod embedding;
mod linear;
mod next_token_loss;
mod rational;
mod residual;
mod rms_norm;
mod rope;
mod swiglu;

use evenkeel_schedule::{Recorder, TensorId};

pub use attention::{AttentionShape, attention};
pub use cached_attention::{CachedRows, LayerCache, cached_attention};
pub use embedding::{TokenBatch, embedding};
pub use linear::{linear, linear_to_stream};
pub use next_token_loss::{LossTensors, next_token_logits, next_token_loss};
pub use rational::{RationalTensors, rational};
pub use residual::Residual;
pub use rms_norm::rms_norm;
pub use rope::{RopeTables, rope};
pub use swiglu::swiglu;

/// A tensor as a matrix: all extents but the last as rows, the last as columns.
fn matrix(r: &Recorder, tensor: TensorId) -> (usize, usize) {
    let tensor = r.tensor(tensor);
    let columns = tensor.shape.last().map_or(1, |dim| dim.extent);
    (tensor.len() / columns, columns)
}
