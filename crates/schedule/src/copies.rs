//! Half precision in a recording: which phases store activations in it, and the copies of parameters that their matrix
//! products read. The parameters themselves stay f32, as do their gradients and moments.

use evenkeel_shaders::{DType, Params, convert};

use crate::{Operand, Recorder, Role, ScheduleError, Tensor, TensorId, View};

/// State of half precision in a recording.
#[derive(Debug)]
pub(crate) struct Halves {
    /// Of the activations that a layer leaves to [`Recorder::stored`].
    storage: DType,
    /// Elements that parameters are padded to, so that a copy of theirs begins where it can be bound.
    pub(crate) alignment: usize,
    /// Parameters with the copy of each.
    copy_of: Vec<(TensorId, TensorId)>,
    /// Neighbours in an arena, and where their copies lie: one conversion.
    runs: Vec<(Operand, TensorId)>,
}

impl Default for Halves {
    fn default() -> Self {
        Self { storage: DType::F32, alignment: View::ALIGNMENT, copy_of: Vec::new(), runs: Vec::new() }
    }
}

impl Recorder {
    /// Parameters will be placed so that [`Recorder::half_copies`] can follow.
    pub fn with_half_copies(mut self) -> Self {
        self.halves.alignment = View::alignment(DType::F16);
        self
    }

    /// Gives every parameter for which `wanted` holds a copy in half precision, `PARAMETER.half`. To be called once,
    /// after [`Recorder::parameters`].
    ///
    /// # Errors
    /// A name that is taken.
    pub fn half_copies(&mut self, wanted: impl Fn(&str) -> bool) -> Result<(), ScheduleError> {
        let mut members: Vec<(TensorId, TensorId, usize, Tensor)> = self
            .all_tensors()
            .filter(|(_, tensor)| tensor.role == Role::Parameter && wanted(&tensor.name))
            .filter_map(|(id, tensor)| tensor.within.map(|(arena, first)| (arena, id, first, tensor.clone())))
            .collect();
        members.sort_by_key(|&(arena, _, first, _)| (arena, first));
        let alignment = self.halves.alignment;
        let end = |(_, _, first, tensor): &(TensorId, TensorId, usize, Tensor)| {
            first + tensor.len().next_multiple_of(alignment)
        };
        for run in members.chunk_by(|a, b| a.0 == b.0 && end(a) == b.2) {
            let [(arena, _, offset, _), ..] = run else { continue };
            let len = run.last().map_or(0, end) - offset;
            let name = format!("half_copies.{}", self.halves.runs.len());
            let copies = self.new_tensor(&name, Role::Copy, DType::F16, &[("N", len)])?;
            for (_, parameter, first, tensor) in run {
                let name = format!("{}.half", tensor.name);
                let within = Some((copies, first - offset));
                let shape = tensor.shape.clone();
                let copy = self.push(Tensor { name, dtype: DType::F16, shape, role: Role::Copy, within })?;
                self.set_wants_gradient(copy, self.wants_gradient(*parameter));
                self.halves.copy_of.push((*parameter, copy));
            }
            self.halves.runs.push((Operand::Part { tensor: *arena, offset: *offset, len }, copies));
        }
        Ok(())
    }

    /// Records the writing of all copies.
    ///
    /// # Errors
    /// None that a recording gives whose parameters were placed for it.
    pub fn copy_parameters(&mut self) -> Result<(), ScheduleError> {
        for (parameters, copies) in self.halves.runs.clone() {
            let params = Params::dims([("N", self.tensor(copies).len())]);
            self.run(&convert::CARD, params, &[parameters, copies.into()])?;
        }
        Ok(())
    }

    /// From here on, activations are stored so where a layer leaves that to the recorder.
    pub fn set_storage(&mut self, dtype: DType) {
        self.halves.storage = dtype;
    }

    /// A new activation of the storage's dtype.
    ///
    /// # Errors
    /// As [`Recorder::new_tensor`].
    pub fn stored(&mut self, name: &str, shape: &[(&'static str, usize)]) -> Result<TensorId, ScheduleError> {
        self.new_tensor(name, Role::Activation, self.halves.storage, shape)
    }

    /// A new tensor of the storage's dtype for use inside one operation.
    ///
    /// # Errors
    /// As [`Recorder::new_tensor`].
    pub fn stored_scratch(&mut self, name: &str, shape: &[(&'static str, usize)]) -> Result<TensorId, ScheduleError> {
        self.new_tensor(name, Role::Scratch, self.halves.storage, shape)
    }

    /// What a matrix product reads of `tensor`: a parameter's copy, or a tensor as it is; where it is not of the storage's
    /// dtype, a scratch copy that is.
    ///
    /// # Errors
    /// Those of recording the conversion.
    pub fn operand(&mut self, tensor: TensorId) -> Result<TensorId, ScheduleError> {
        let dtype = self.halves.storage;
        if self.tensor(tensor).dtype == dtype {
            return Ok(tensor);
        }
        if let Some((_, copy)) = self.halves.copy_of.iter().find(|(parameter, _)| *parameter == tensor) {
            return Ok(*copy);
        }
        let len = self.tensor(tensor).len();
        let operand = self.stored_scratch("operand", &[("N", len)])?;
        self.run(&convert::CARD, Params::dims([("N", len)]), &[tensor.into(), operand.into()])?;
        Ok(operand)
    }
}
