//! The output head and its cross-entropy, chunk by chunk of rows: the logits of a chunk are turned into a loss and,
//! in training, at once into gradients, so that the full logits never exist.
//!
//! Unlike other layers it records no closure: the gradients of its input and of the head are there when it returns.

use evenkeel_schedule::{DType, Operand, Operand::GradientTo, Params, Phase, Recorder, ScheduleError, TensorId, View};
use evenkeel_shaders::{cross_entropy_bwd, cross_entropy_fwd, matmul_nn, matmul_nt, matmul_tn};

use super::matrix;

/// Bytes that the logits of one chunk take at most: what one binding holds on every device.
const MOST_CHUNK_BYTES: usize = 128 << 20;

/// Bytes that they may take in any case.
const LEAST_CHUNK_BYTES: usize = 16 << 20;

/// What the loss reads and writes besides x and the head.
#[derive(Clone, Copy, Debug)]
pub struct LossTensors {
    /// Target ids (R), u32.
    pub targets: TensorId,
    /// Loss of each row (R), in nats.
    pub losses: TensorId,
    /// Weight of each row's loss in the total (R): the upstream gradient; none without training.
    pub weights: Option<TensorId>,
}

/// Records the losses of x (R, C) under the head w (V, C) and, in [`Phase::ForwardBackward`], their gradients.
///
/// # Errors
/// Shapes that do not fit.
pub fn next_token_loss(r: &mut Recorder, x: TensorId, w: TensorId, tensors: LossTensors) -> Result<(), ScheduleError> {
    let (rows, channels) = matrix(r, x);
    let (vocabulary, _) = matrix(r, w);
    let stride = vocabulary.next_multiple_of(4);
    let chunk = chunk_rows(rows, channels, stride);
    let head = r.operand(w)?;
    let training = tensors.weights.filter(|_| r.phase() == Phase::ForwardBackward);
    let dx = if training.is_some() { r.gradient_target(x)? } else { None };
    for first in (0..rows).step_by(chunk) {
        let rows = chunk.min(rows - first);
        let part = |tensor, columns| Operand::Part { tensor, offset: first * columns, len: rows * columns };
        let logits = r.scratch("logits", &[("R", rows), ("V", stride)])?;
        let dims = Params::dims([("M", rows), ("N", vocabulary), ("K", channels), ("y_stride", stride)]);
        r.run(&matmul_nt::CARD, dims, &[part(x, channels), head.into(), logits.into()])?;
        let lse = r.scratch("lse", &[("R", rows)])?;
        let dims = || Params::dims([("R", rows), ("V", vocabulary), ("stride", stride)]);
        let (targets, losses) = (part(tensors.targets, 1), part(tensors.losses, 1));
        r.run(&cross_entropy_fwd::CARD, dims(), &[logits.into(), targets, losses, lse.into()])?;
        let Some(weights) = training else { continue };
        let dlogits = r.stored_scratch("dlogits", &[("R", rows), ("V", stride)])?;
        let operands = [logits.into(), targets, lse.into(), part(weights, 1), dlogits.into()];
        r.run(&cross_entropy_bwd::CARD, dims(), &operands)?;
        if let Some(dx) = dx {
            let dims = Params::dims([("M", rows), ("N", channels), ("K", vocabulary), ("x_stride", stride)]);
            let dims = dims.with_dim("accumulate", usize::from(dx.accumulate));
            r.run(&matmul_nn::CARD, dims, &[dlogits.into(), head.into(), part(dx.tensor, channels)])?;
        }
        let dims = Params::dims([("M", vocabulary), ("N", channels), ("K", rows), ("x_stride", stride)]);
        r.run(&matmul_tn::CARD, dims, &[dlogits.into(), part(x, channels), GradientTo(w)])?;
    }
    Ok(())
}

/// Rows of a chunk, in multiples of the views' alignment: so many that its logits take twice the bytes of x. That is little
/// beside a model's activations, and chunks are few: the gradient to the head is read and written once for each, and a
/// product of a hundred rows does not fill a large GPU.
fn chunk_rows(rows: usize, channels: usize, stride: usize) -> usize {
    let bytes = (2 * rows * channels * DType::F32.size()).clamp(LEAST_CHUNK_BYTES, MOST_CHUNK_BYTES);
    let fitting = bytes / (stride * DType::F32.size());
    (fitting / View::ALIGNMENT * View::ALIGNMENT).max(View::ALIGNMENT)
}

/// Records the logits of x (R, C), for small R: y (R, V), whose rows may be longer.
///
/// # Errors
/// Shapes that do not fit.
pub fn next_token_logits(r: &mut Recorder, x: TensorId, w: TensorId, y: TensorId) -> Result<(), ScheduleError> {
    let (rows, channels) = matrix(r, x);
    let (vocabulary, _) = matrix(r, w);
    let (_, stride) = matrix(r, y);
    let dims = Params::dims([("M", rows), ("N", vocabulary), ("K", channels), ("y_stride", stride)]);
    r.run(&matmul_nt::CARD, dims, &[x.into(), w.into(), y.into()])
}

#[cfg(test)]
mod tests {
    use super::chunk_rows;

    /// Of presets nano and l, of one sequence of a large vocabulary, and of more than a binding holds.
    #[test]
    fn chunks_grow_with_the_activations_up_to_a_binding() {
        for ([rows, channels, stride], expected) in [
            ([1024, 128, 512], 8192),
            ([16 << 10, 768, 32_000], 768),
            ([1024, 512, 32_000], 128),
            ([64 << 10, 4096, 128_000], 256),
        ] {
            assert_eq!(chunk_rows(rows, channels, stride), expected, "{rows} {channels} {stride}");
        }
    }
}
