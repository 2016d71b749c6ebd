//! Which tensor of a step is the first that is not finite.

use evenkeel_schedule::{Phase, Role};

use crate::{Executor, TrainError, Trainer};

impl Trainer {
    /// Gives up the steps that have begun, runs the forward and backward of `step` again, one kernel at a time, and names
    /// the first tensor that is not finite with the kernel that wrote it. The parameters are those before that step, if
    /// its record was the last to be taken: an update that is not finite is not applied, and none is submitted
    /// before the record of the step before it was taken.
    ///
    /// # Errors
    /// Data that cannot be read, a device that is lost.
    pub async fn first_non_finite(&mut self, executor: &mut Executor, step: u64) -> Result<Option<String>, TrainError> {
        self.abandon(executor).await?;
        let schedule = executor.schedule().clone();
        for spec in schedule.tensors().filter(|(_, tensor)| tensor.role == Role::Parameter) {
            let (id, tensor) = spec;
            if tensor.within.is_some() && executor.read(id).await?.iter().any(|value| !value.is_finite()) {
                return Ok(Some(format!("parameter {}", tensor.name)));
            }
        }
        executor.run(Phase::Begin).await?;
        for micro in 0..self.accumulation() {
            self.write_batch(executor, step, micro)?;
            for index in schedule.phase(Phase::ForwardBackward) {
                executor.run_step(index).await?;
                if let Some(tensor) = non_finite_output(executor, index).await? {
                    return Ok(Some(tensor));
                }
            }
        }
        Ok(None)
    }
}

async fn non_finite_output(executor: &mut Executor, index: usize) -> Result<Option<String>, TrainError> {
    let schedule = executor.schedule().clone();
    let step = &schedule.steps()[index];
    for (access, view) in step.accesses() {
        if access == evenkeel_shaders::Access::Read {
            continue;
        }
        let values = executor.read(view.tensor).await?;
        let written = &values[view.offset..view.offset + view.len];
        if written.iter().any(|value| !value.is_finite()) {
            let tensor = &schedule.tensor(view.tensor).name;
            return Ok(Some(format!("{tensor}, written by {} in {}", step.card.name, step.scope)));
        }
    }
    Ok(None)
}
