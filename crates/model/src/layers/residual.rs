//! The residual stream: what each branch of the network adds to, and each norm reads.

use evenkeel_schedule::{Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::{add, residual_rms_norm_fwd};

use super::{matrix, rms_norm};

/// The stream (R, C) at a point of the network. A branch is added where the stream is read next: by a norm, in one kernel
/// with it.
#[derive(Clone, Copy, Debug)]
pub struct Residual {
    stream: TensorId,
    branch: Option<TensorId>,
}

impl Residual {
    /// The stream as it begins.
    pub fn new(stream: TensorId) -> Self {
        Self { stream, branch: None }
    }

    /// The stream, with every branch that came to it.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn tensor(&mut self, r: &mut Recorder) -> Result<TensorId, ScheduleError> {
        if let Some(branch) = self.branch.take() {
            self.stream = sum(r, self.stream, branch)?;
        }
        Ok(self.stream)
    }

    /// Adds a branch (R, C).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn add(&mut self, r: &mut Recorder, branch: TensorId) -> Result<(), ScheduleError> {
        self.tensor(r)?;
        self.branch = Some(branch);
        Ok(())
    }

    /// Records y (R, C), the RMSNorm of the stream with gain w (C).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn rms_norm(&mut self, r: &mut Recorder, w: TensorId, eps: f32) -> Result<TensorId, ScheduleError> {
        let Some(branch) = self.branch.take() else { return rms_norm::rms_norm(r, self.stream, w, eps) };
        let stream = self.stream;
        let (rows, channels) = matrix(r, stream);
        let shape = [("R", rows), ("C", channels)];
        let sum = r.activation("residual", &shape)?;
        let y = r.stored("y", &shape)?;
        let rstd = r.activation("rstd", &[("R", rows)])?;
        let operands = [stream.into(), branch.into(), w.into(), sum.into(), y.into(), rstd.into()];
        r.run(&residual_rms_norm_fwd::CARD, Params::dims(shape).with_scalar("eps", eps), &operands)?;
        r.on_backward(&[sum], move |r| hand_on(r, sum, [stream, branch]));
        r.on_backward(&[y], move |r| rms_norm::backward(r, y, [sum, w, rstd]));
        self.stream = sum;
        Ok(y)
    }
}

/// Records stream + branch.
fn sum(r: &mut Recorder, stream: TensorId, branch: TensorId) -> Result<TensorId, ScheduleError> {
    let (rows, channels) = matrix(r, stream);
    let y = r.activation("residual", &[("R", rows), ("C", channels)])?;
    r.run(&add::CARD, Params::dims([("N", rows * channels)]), &[stream.into(), branch.into(), y.into()])?;
    r.on_backward(&[y], move |r| hand_on(r, y, [stream, branch]));
    Ok(y)
}

/// A sum's gradient goes on to its terms unchanged, without a copy.
fn hand_on(r: &mut Recorder, sum: TensorId, terms: [TensorId; 2]) -> Result<(), ScheduleError> {
    terms.into_iter().try_for_each(|term| r.pass_gradient(sum, term))
}
