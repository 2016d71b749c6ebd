//! The reverse pass: the tape of backward closures, and where each tensor's gradient lies.
//!
//! A tensor's first gradient contribution is written, later ones are added. A residual add hands its gradient on
//! without a copy: several tensors then share one gradient tensor, and whoever must add to it while another still has
//! to read it gets a copy first.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use evenkeel_shaders::{Card, Params, accumulate};

use crate::{Operand, Phase, Recorder, Role, ScheduleError, TensorId, View};

type Backward = Box<dyn FnOnce(&mut Recorder) -> Result<(), ScheduleError>>;

struct TapeEntry {
    scope: Vec<String>,
    /// Whose gradients the closure reads; once it ran, nobody does.
    outputs: Vec<TensorId>,
    backward: Backward,
}

/// State of the reverse pass.
pub(crate) struct Gradients {
    tape: Vec<TapeEntry>,
    wants: HashSet<TensorId>,
    /// Gradient tensor of each tensor that has one by now.
    of: HashMap<TensorId, TensorId>,
    /// Tensors whose gradient has been read by their producer.
    consumed: HashSet<TensorId>,
    add_to_parameters: bool,
    recorded_backward: bool,
}

impl Gradients {
    pub(crate) fn new(add_to_parameters: bool) -> Self {
        Self {
            tape: Vec::new(),
            wants: HashSet::new(),
            of: HashMap::new(),
            consumed: HashSet::new(),
            add_to_parameters,
            recorded_backward: false,
        }
    }
}

/// Operands with their gradients resolved.
pub(crate) struct Bound {
    pub(crate) views: Vec<View>,
    pub(crate) accumulate: bool,
    /// Scratch to add into a gradient after the step, for kernels that cannot add.
    pub(crate) add_after: Vec<(TensorId, TensorId)>,
}

/// Where a gradient goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Gradient tensor.
    pub tensor: TensorId,
    /// Whether it holds contributions already, to be added to.
    pub accumulate: bool,
}

impl Recorder {
    /// Whether the loss can reach a trainable parameter through this tensor.
    pub fn wants_gradient(&self, tensor: TensorId) -> bool {
        self.gradients.wants.contains(&tensor)
    }

    pub(crate) fn set_wants_gradient(&mut self, tensor: TensorId, wants: bool) {
        if wants {
            self.gradients.wants.insert(tensor);
        }
    }

    /// Registers the closure that records the backward of what produced `outputs`. Outside of
    /// [`Phase::ForwardBackward`] it is dropped; where no output received a gradient it does not run.
    pub fn on_backward(
        &mut self,
        outputs: &[TensorId],
        backward: impl FnOnce(&mut Self) -> Result<(), ScheduleError> + 'static,
    ) {
        if self.phase() == Phase::ForwardBackward && outputs.iter().any(|&output| self.wants_gradient(output)) {
            let entry = TapeEntry { scope: self.scopes(), outputs: outputs.to_vec(), backward: Box::new(backward) };
            self.gradients.tape.push(entry);
        }
    }

    /// The gradient that `tensor` received: the upstream gradient of a backward closure.
    ///
    /// # Errors
    /// It received none.
    pub fn gradient_of(&self, tensor: TensorId) -> Result<TensorId, ScheduleError> {
        let found = self.gradients.of.get(&tensor).copied();
        found.ok_or_else(|| ScheduleError::NoGradient { parameter: self.tensor(tensor).name.clone() })
    }

    /// Runs the tape in reverse.
    ///
    /// # Errors
    /// Those of the closures.
    pub fn backward(&mut self) -> Result<(), ScheduleError> {
        self.gradients.recorded_backward = true;
        while let Some(entry) = self.gradients.tape.pop() {
            if !entry.outputs.iter().any(|output| self.gradients.of.contains_key(output)) {
                continue;
            }
            let outer = self.swap_scope(entry.scope);
            let result = (entry.backward)(self);
            self.swap_scope(outer);
            result?;
            self.gradients.consumed.extend(entry.outputs);
        }
        Ok(())
    }

    /// Where the next contribution to the gradient of `x` goes; none where no gradient is wanted. The caller must
    /// write (or add) it.
    ///
    /// # Errors
    /// Those of recording a copy.
    pub fn gradient_target(&mut self, x: TensorId) -> Result<Option<Target>, ScheduleError> {
        if !self.wants_gradient(x) {
            return Ok(None);
        }
        let parameter = self.arenas.gradient_of.iter().find(|(known, _)| *known == x).map(|(_, gradient)| *gradient);
        let Some(&gradient) = self.gradients.of.get(&x) else {
            let tensor = match parameter {
                Some(gradient) => gradient,
                None => self.new_gradient(x)?,
            };
            self.gradients.of.insert(x, tensor);
            let accumulate = parameter.is_some() && self.gradients.add_to_parameters;
            return Ok(Some(Target { tensor, accumulate }));
        };
        let read_later = |(&other, &shared): (&TensorId, &TensorId)| {
            other != x && shared == gradient && !self.gradients.consumed.contains(&other)
        };
        if !self.gradients.of.iter().any(read_later) {
            return Ok(Some(Target { tensor: gradient, accumulate: true }));
        }
        let copy = self.new_gradient(x)?;
        self.record_accumulate(gradient, copy, false)?;
        self.gradients.of.insert(x, copy);
        Ok(Some(Target { tensor: copy, accumulate: true }))
    }

    /// Hands the gradient of `y` on to `x` unchanged, as an addition does to its operands.
    ///
    /// # Errors
    /// Those of recording the addition where `x` has a gradient already.
    pub fn pass_gradient(&mut self, y: TensorId, x: TensorId) -> Result<(), ScheduleError> {
        if !self.wants_gradient(x) {
            return Ok(());
        }
        let dy = self.gradient_of(y)?;
        if let Entry::Vacant(first) = self.gradients.of.entry(x) {
            first.insert(dy);
            return Ok(());
        }
        match self.gradient_target(x)? {
            Some(target) => self.record_accumulate(dy, target.tensor, true),
            None => Ok(()),
        }
    }

    fn new_gradient(&mut self, x: TensorId) -> Result<TensorId, ScheduleError> {
        let tensor = self.tensor(x).clone();
        let shape: Vec<_> = tensor.shape.iter().map(|dim| (dim.name, dim.extent)).collect();
        let outer = self.swap_scope(Vec::new());
        let gradient = self.new_tensor(&format!("{}.grad", tensor.name), Role::Activation, tensor.dtype, &shape);
        self.swap_scope(outer);
        gradient
    }

    pub(crate) fn add_into(&mut self, from: TensorId, into: TensorId) -> Result<(), ScheduleError> {
        self.record_accumulate(from, into, true)
    }

    fn record_accumulate(&mut self, from: TensorId, into: TensorId, add: bool) -> Result<(), ScheduleError> {
        let params = Params::dims([("N", self.tensor(from).len()), ("accumulate", usize::from(add))]);
        self.run(&accumulate::CARD, params, &[from.into(), into.into()])
    }

    /// Resolves operands; none where the step only makes gradients that nobody wants.
    pub(crate) fn bind_gradients(
        &mut self,
        card: &'static Card,
        operands: &[Operand],
    ) -> Result<Option<Bound>, ScheduleError> {
        let wanted: Vec<TensorId> = operands
            .iter()
            .filter_map(|operand| if let Operand::GradientTo(x) = operand { Some(*x) } else { None })
            .collect();
        if !wanted.is_empty() && !wanted.iter().any(|&x| self.wants_gradient(x)) {
            return Ok(None);
        }
        let adds = card.params.iter().any(|param| param.name() == "accumulate");
        let mut bound = Bound { views: Vec::new(), accumulate: false, add_after: Vec::new() };
        for operand in operands {
            let view = match *operand {
                Operand::Whole(tensor) => self.whole(tensor),
                Operand::Part { tensor, offset, len } => View { tensor, offset, len },
                Operand::GradientTo(x) => match self.gradient_target(x)? {
                    None => self.discard(x)?,
                    Some(target) if !target.accumulate => self.whole(target.tensor),
                    Some(target) if adds => {
                        bound.accumulate = true;
                        self.whole(target.tensor)
                    }
                    Some(target) => {
                        let view = self.discard(x)?;
                        bound.add_after.push((view.tensor, target.tensor));
                        view
                    }
                },
            };
            bound.views.push(view);
        }
        Ok(Some(bound))
    }

    fn whole(&self, tensor: TensorId) -> View {
        View { tensor, offset: 0, len: self.tensor(tensor).len() }
    }

    /// Scratch of the shape of `x`.
    fn discard(&mut self, x: TensorId) -> Result<View, ScheduleError> {
        let (len, dtype) = (self.tensor(x).len(), self.tensor(x).dtype);
        let tensor = self.new_tensor("contribution", Role::Scratch, dtype, &[("N", len)])?;
        Ok(self.whole(tensor))
    }

    pub(crate) fn check_gradients(&self) -> Result<(), ScheduleError> {
        if !self.gradients.recorded_backward {
            return Ok(());
        }
        for (parameter, _) in &self.arenas.gradient_of {
            self.gradient_of(*parameter)?;
        }
        Ok(())
    }
}
