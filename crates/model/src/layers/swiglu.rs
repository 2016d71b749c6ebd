//! SwiGLU (Shazeer 2020): silu(gate) * up.

use evenkeel_schedule::{Operand::GradientTo, Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::{swiglu_bwd, swiglu_fwd};

use super::matrix;

/// Records y = silu(gate) * up, all (R, F).
///
/// # Errors
/// Shapes that do not fit.
pub fn swiglu(r: &mut Recorder, gate: TensorId, up: TensorId) -> Result<TensorId, ScheduleError> {
    let (rows, width) = matrix(r, gate);
    let y = r.stored("swiglu", &[("R", rows), ("F", width)])?;
    let params = move || Params::dims([("N", rows * width)]);
    r.run(&swiglu_fwd::CARD, params(), &[gate.into(), up.into(), y.into()])?;
    r.on_backward(&[y], move |r| {
        let dy = r.gradient_of(y)?;
        let operands = [gate.into(), up.into(), dy.into(), GradientTo(gate), GradientTo(up)];
        r.run(&swiglu_bwd::CARD, params(), &operands)
    });
    Ok(y)
}
