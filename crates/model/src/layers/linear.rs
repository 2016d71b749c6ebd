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
    let (rows, inputs) = matrix(r, x);
    let (outputs, _) = matrix(r, w);
    let y = r.activation(name, &[("R", rows), (columns, outputs)])?;
    let params = Params::dims([("M", rows), ("N", outputs), ("K", inputs), ("y_stride", outputs)]);
    r.run(&matmul_nt::CARD, params, &[x.into(), w.into(), y.into()])?;
    r.on_backward(&[y], move |r| {
        let dy = r.gradient_of(y)?;
        let params = Params::dims([("M", rows), ("N", inputs), ("K", outputs), ("x_stride", outputs)]);
        r.run(&matmul_nn::CARD, params, &[dy.into(), w.into(), GradientTo(x)])?;
        let params = Params::dims([("M", outputs), ("N", inputs), ("K", rows), ("x_stride", outputs)]);
        r.run(&matmul_tn::CARD, params, &[dy.into(), x.into(), GradientTo(w)])
    });
    Ok(y)
}
