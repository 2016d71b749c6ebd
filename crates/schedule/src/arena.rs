//! Parameters packed into arenas: few buffers, each within one binding, so that the optimizer and the gradient norm
//! are a handful of dispatches whatever the number of tensors.
//!
//! Trainable parameters with weight decay come first, then those without; frozen ones have arenas of their own, since
//! gradients and moments mirror the trainable arenas offset by offset.

use crate::{DType, Dim, Operand, Recorder, Role, ScheduleError, Tensor, TensorId};

/// A parameter to place.
#[derive(Clone, Debug)]
pub struct ParameterDecl {
    /// Checkpoint key.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<Dim>,
    /// Whether weight decay applies.
    pub decayed: bool,
    /// Whether it is trained; a frozen parameter has no gradient and no moments.
    pub trainable: bool,
}

/// Trainable parameters that lie side by side in one arena and are decayed alike: one dispatch of an optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterRun {
    /// Index of the arena among the trainable ones.
    pub arena: usize,
    /// First element in the arena.
    pub offset: usize,
    /// Elements, padding included (whose values and gradients are 0).
    pub len: usize,
    /// Whether weight decay applies.
    pub decayed: bool,
}

impl ParameterRun {
    /// This run's part of an arena or of one that mirrors it.
    pub fn of(&self, arenas: &[TensorId]) -> Operand {
        Operand::Part { tensor: arenas[self.arena], offset: self.offset, len: self.len }
    }
}

/// Where parameters lie.
#[derive(Debug, Default)]
pub(crate) struct Arenas {
    pub(crate) trainable: Vec<TensorId>,
    pub(crate) gradients: Vec<TensorId>,
    pub(crate) runs: Vec<ParameterRun>,
    /// Trainable parameters with the gradient of each.
    pub(crate) gradient_of: Vec<(TensorId, TensorId)>,
}

struct Slot {
    arena: usize,
    offset: usize,
}

impl Recorder {
    /// Places parameters and, for the trainable ones, their gradients. To be called once, first.
    ///
    /// # Errors
    /// A parameter larger than one binding; a name given twice.
    pub fn parameters(&mut self, decls: &[ParameterDecl]) -> Result<(), ScheduleError> {
        let mut frozen = Vec::new();
        for (trainable, decayed) in [(true, true), (true, false), (false, true), (false, false)] {
            let group = decls.iter().filter(|decl| decl.trainable == trainable && decl.decayed == decayed);
            for decl in group {
                self.place_parameter(decl, &mut frozen)?;
            }
        }
        let sizes: Vec<usize> = self.arenas.trainable.iter().map(|&arena| self.tensor(arena).len()).collect();
        for (i, len) in sizes.into_iter().enumerate() {
            let name = format!("gradients.{i}");
            let gradient = self.new_tensor(&name, Role::Gradient, DType::F32, &[("N", len)])?;
            self.arenas.gradients.push(gradient);
        }
        let gradients = self.arenas.gradients.clone();
        self.arenas.gradient_of = self.name_members(&gradients, Role::Gradient, "grad")?;
        Ok(())
    }

    fn place_parameter(&mut self, decl: &ParameterDecl, frozen: &mut Vec<TensorId>) -> Result<(), ScheduleError> {
        let len: usize = decl.shape.iter().map(|dim| dim.extent).product();
        let padded = len.next_multiple_of(self.halves.alignment);
        let bytes = (padded * DType::F32.size()) as u64;
        if bytes > self.binding_limit() {
            let limit = self.binding_limit();
            return Err(ScheduleError::TooLarge { tensor: decl.name.clone(), limit, bytes });
        }
        let arenas = if decl.trainable { self.arenas.trainable.clone() } else { frozen.clone() };
        let slot = self.slot(decl, &arenas, padded, frozen)?;
        let arena = if decl.trainable { self.arenas.trainable[slot.arena] } else { frozen[slot.arena] };
        let id = self.push(Tensor {
            name: decl.name.clone(),
            dtype: DType::F32,
            shape: decl.shape.clone(),
            role: Role::Parameter,
            within: Some((arena, slot.offset)),
        })?;
        self.set_wants_gradient(id, decl.trainable);
        if decl.trainable {
            let continued = |run: &&mut ParameterRun| {
                run.arena == slot.arena && run.decayed == decl.decayed && run.offset + run.len == slot.offset
            };
            match self.arenas.runs.last_mut().filter(continued) {
                Some(run) => run.len += padded,
                None => self.arenas.runs.push(ParameterRun {
                    arena: slot.arena,
                    offset: slot.offset,
                    len: padded,
                    decayed: decl.decayed,
                }),
            }
        }
        Ok(())
    }

    /// Room for `padded` elements behind the last arena's end, or in a new one.
    fn slot(
        &mut self,
        decl: &ParameterDecl,
        arenas: &[TensorId],
        padded: usize,
        frozen: &mut Vec<TensorId>,
    ) -> Result<Slot, ScheduleError> {
        let limit = self.binding_limit() as usize / DType::F32.size();
        if let Some((i, &last)) = arenas.iter().enumerate().next_back() {
            let offset = self.tensor(last).len();
            if offset + padded <= limit {
                self.grow(last, padded);
                return Ok(Slot { arena: i, offset });
            }
        }
        let i = arenas.len();
        let name = if decl.trainable { format!("parameters.{i}") } else { format!("frozen.{i}") };
        let arena = self.new_tensor(&name, Role::Parameter, DType::F32, &[("N", padded)])?;
        if decl.trainable {
            self.arenas.trainable.push(arena)
        } else {
            frozen.push(arena)
        }
        Ok(Slot { arena: i, offset: 0 })
    }

    /// Arenas that mirror the trainable parameters, such as an optimizer's first moment; each parameter's member is
    /// called `PARAMETER.suffix`.
    ///
    /// # Errors
    /// A suffix that is taken.
    pub fn moments(&mut self, suffix: &str) -> Result<Vec<TensorId>, ScheduleError> {
        let mut mirrors = Vec::new();
        for i in 0..self.arenas.trainable.len() {
            let len = self.tensor(self.arenas.trainable[i]).len();
            mirrors.push(self.new_tensor(&format!("{suffix}.{i}"), Role::Moment, DType::F32, &[("N", len)])?);
        }
        self.name_members(&mirrors, Role::Moment, suffix)?;
        Ok(mirrors)
    }

    /// A tensor with one element for each of these trainable parameters, such as the norm of its gradients; the
    /// parameter's element is called `PARAMETER.suffix`.
    ///
    /// # Errors
    /// A name or suffix that is taken.
    pub fn scalar_moments(
        &mut self,
        name: &str,
        suffix: &str,
        parameters: &[TensorId],
    ) -> Result<TensorId, ScheduleError> {
        let all = self.new_tensor(name, Role::Moment, DType::F32, &[("N", parameters.len())])?;
        for (i, &parameter) in parameters.iter().enumerate() {
            let name = format!("{}.{suffix}", self.tensor(parameter).name);
            let shape = vec![Dim { name: "N", extent: 1 }];
            self.push(Tensor { name, dtype: DType::F32, shape, role: Role::Moment, within: Some((all, i)) })?;
        }
        Ok(all)
    }

    fn name_members(
        &mut self,
        mirrors: &[TensorId],
        role: Role,
        suffix: &str,
    ) -> Result<Vec<(TensorId, TensorId)>, ScheduleError> {
        let members: Vec<(TensorId, Tensor, usize, usize)> = self
            .all_tensors()
            .filter(|(_, tensor)| tensor.role == Role::Parameter)
            .filter_map(|(id, tensor)| {
                let (arena, offset) = tensor.within?;
                let i = self.arenas.trainable.iter().position(|&known| known == arena)?;
                Some((id, tensor.clone(), i, offset))
            })
            .collect();
        let mut pairs = Vec::new();
        for (parameter, tensor, arena, offset) in members {
            let name = format!("{}.{suffix}", tensor.name);
            let within = Some((mirrors[arena], offset));
            pairs.push((parameter, self.push(Tensor { name, role, within, ..tensor })?));
        }
        Ok(pairs)
    }

    /// The trainable arenas.
    pub fn parameter_arenas(&self) -> Vec<TensorId> {
        self.arenas.trainable.clone()
    }

    /// The gradient arenas, one per trainable arena.
    pub fn gradient_arenas(&self) -> Vec<TensorId> {
        self.arenas.gradients.clone()
    }

    /// The pieces that an optimizer's dispatches cover.
    pub fn parameter_runs(&self) -> Vec<ParameterRun> {
        self.arenas.runs.clone()
    }
}
