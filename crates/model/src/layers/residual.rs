//! The residual stream's addition: its gradient goes on to both operands unchanged, without a copy.

use evenkeel_schedule::{Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::add;

use super::matrix;

/// Records y = stream + branch, both (R, C).
///
/// # Errors
/// Shapes that do not fit.
pub fn residual(r: &mut Recorder, stream: TensorId, branch: TensorId) -> Result<TensorId, ScheduleError> {
    let (rows, channels) = matrix(r, stream);
    let y = r.activation("residual", &[("R", rows), ("C", channels)])?;
    r.run(&add::CARD, Params::dims([("N", rows * channels)]), &[stream.into(), branch.into(), y.into()])?;
    r.on_backward(&[y], move |r| {
        r.pass_gradient(y, stream)?;
        r.pass_gradient(y, branch)
    });
    Ok(y)
}
