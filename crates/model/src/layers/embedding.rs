//! Token embedding. Its backward sums rows in the order of a host-made index by token, so it is deterministic without
//! atomics and costs R C, whatever the vocabulary.

use evenkeel_schedule::{Operand::GradientTo, Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::{embedding_bwd, embedding_fwd};

use super::matrix;

/// What the host writes for a batch of input tokens; all u32.
#[derive(Clone, Copy, Debug)]
pub struct TokenBatch {
    /// Token ids (R).
    pub ids: TensorId,
    /// For training: rows sorted by token (R), and the first position of each token in it (V).
    pub by_token: Option<(TensorId, TensorId)>,
}

/// Records y (R, C) = the rows of w (V, C) that the batch names.
///
/// # Errors
/// Shapes that do not fit.
pub fn embedding(r: &mut Recorder, batch: TokenBatch, w: TensorId) -> Result<TensorId, ScheduleError> {
    let rows = r.tensor(batch.ids).len();
    let (vocabulary, channels) = matrix(r, w);
    let y = r.activation("embedding", &[("R", rows), ("C", channels)])?;
    let params = move || Params::dims([("R", rows), ("V", vocabulary), ("C", channels)]);
    r.run(&embedding_fwd::CARD, params(), &[batch.ids.into(), w.into(), y.into()])?;
    if let Some((order, start)) = batch.by_token {
        r.on_backward(&[y], move |r| {
            let dy = r.gradient_of(y)?;
            r.run(&embedding_bwd::CARD, params(), &[dy.into(), order.into(), start.into(), GradientTo(w)])
        });
    }
    Ok(y)
}
