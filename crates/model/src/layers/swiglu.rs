//! SwiGLU (Shazeer 2020): silu(gate) * up.

use evenkeel_schedule::{Operand::GradientTo, Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::{swiglu_bwd, swiglu_fwd, swiglu_joined_bwd, swiglu_joined_fwd};

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

/// Records y (R, F) = silu(gate) * up for rows of gate and up, gate_up (R, 2F).
///
/// # Errors
/// Shapes that do not fit.
pub fn swiglu_joined(r: &mut Recorder, gate_up: TensorId) -> Result<TensorId, ScheduleError> {
    let (rows, columns) = matrix(r, gate_up);
    let shape = [("R", rows), ("F", columns / 2)];
    let y = r.stored("swiglu", &shape)?;
    r.run(&swiglu_joined_fwd::CARD, Params::dims(shape), &[gate_up.into(), y.into()])?;
    r.on_backward(&[y], move |r| {
        let dy = r.gradient_of(y)?;
        r.run(&swiglu_joined_bwd::CARD, Params::dims(shape), &[gate_up.into(), dy.into(), GradientTo(gate_up)])
    });
    Ok(y)
}
