//! Linear layer without bias: y = x W^T, W stored (out, in) as PyTorch does.

use evenkeel_schedule::{Operand::GradientTo, Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::{matmul_nn, matmul_nt, matmul_tn};

use super::matrix;

/// Records y (R, N) = x (R, K) w (N, K)^T; `columns` is the design's letter for N.
///
/// # Errors
/// Shapes that do not fit.
pub fn linear(
    r: &mut Recorder,
    name: &str,
    x: TensorId,
    w: TensorId,
    columns: &'static str,
) -> Result<TensorId, ScheduleError> {
    let (rows, outputs) = (matrix(r, x).0, matrix(r, w).0);
    let y = r.stored(name, &[("R", rows), (columns, outputs)])?;
    record(r, x, w, y)
}

/// As [`linear`], for what is added to the residual stream: y is f32, as the stream is.
///
/// # Errors
/// Shapes that do not fit.
pub fn linear_to_stream(r: &mut Recorder, name: &str, x: TensorId, w: TensorId) -> Result<TensorId, ScheduleError> {
    let (rows, outputs) = (matrix(r, x).0, matrix(r, w).0);
    let y = r.activation(name, &[("R", rows), ("C", outputs)])?;
    record(r, x, w, y)
}

fn record(r: &mut Recorder, x: TensorId, w: TensorId, y: TensorId) -> Result<TensorId, ScheduleError> {
    let (rows, inputs) = matrix(r, x);
    let (outputs, _) = matrix(r, w);
    let weights = r.operand(w)?;
    let params = Params::dims([("M", rows), ("N", outputs), ("K", inputs), ("y_stride", outputs)]);
    r.run(&matmul_nt::CARD, params, &[x.into(), weights.into(), y.into()])?;
    r.on_backward(&[y], move |r| {
        let dy = r.gradient_of(y)?;
        let dy = r.operand(dy)?;
        let params = Params::dims([("M", rows), ("N", inputs), ("K", outputs), ("x_stride", outputs)]);
        r.run(&matmul_nn::CARD, params, &[dy.into(), weights.into(), GradientTo(x)])?;
        let params = Params::dims([("M", outputs), ("N", inputs), ("K", rows), ("x_stride", outputs)]);
        r.run(&matmul_tn::CARD, params, &[dy.into(), x.into(), GradientTo(w)])
    });
    Ok(y)
}
