//! RMSNorm (Zhang & Sennrich 2019) over the last extent, with a gain and without a bias.

use evenkeel_schedule::{Operand::GradientTo, Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::{column_sum, rms_norm_bwd_w, rms_norm_bwd_x, rms_norm_fwd};

use super::matrix;

/// Records y = x / rms(x) * w over rows of x (R, C).
///
/// # Errors
/// Shapes that do not fit.
pub fn rms_norm(r: &mut Recorder, x: TensorId, w: TensorId, eps: f32) -> Result<TensorId, ScheduleError> {
    let (rows, channels) = matrix(r, x);
    let shape = [("R", rows), ("C", channels)];
    let y = r.stored("y", &shape)?;
    let rstd = r.activation("rstd", &[("R", rows)])?;
    let operands = [x.into(), w.into(), y.into(), rstd.into()];
    r.run(&rms_norm_fwd::CARD, Params::dims(shape).with_scalar("eps", eps), &operands)?;
    r.on_backward(&[y], move |r| backward(r, y, [x, w, rstd]));
    Ok(y)
}

/// Records the gradients of y = x * rstd * w to x and w, where rstd (R) is 1 / rms(x).
pub(super) fn backward(r: &mut Recorder, y: TensorId, [x, w, rstd]: [TensorId; 3]) -> Result<(), ScheduleError> {
    let (rows, channels) = matrix(r, x);
    let dy = r.gradient_of(y)?;
    let operands = [dy.into(), x.into(), w.into(), rstd.into(), GradientTo(x)];
    r.run(&rms_norm_bwd_x::CARD, Params::dims([("R", rows), ("C", channels)]), &operands)?;
    if !r.wants_gradient(w) {
        return Ok(());
    }
    let tiles = rms_norm_bwd_w::tiles(rows);
    let partial = r.scratch("dw_partial", &[("S", tiles), ("C", channels)])?;
    let params = Params::dims([("R", rows), ("C", channels), ("S", tiles)]);
    r.run(&rms_norm_bwd_w::CARD, params, &[dy.into(), x.into(), rstd.into(), partial.into()])?;
    r.run(&column_sum::CARD, Params::dims([("S", tiles), ("C", channels)]), &[partial.into(), GradientTo(w)])
}
