//! The recorder: kernels in, a checked schedule out.

use std::collections::{HashMap, HashSet};

use evenkeel_shaders::{Access, Card, Device, Half, Param, Params, Precision, Value};

use crate::{
    DType, Dim, Memory, Operand, Phase, Role, Schedule, ScheduleError, Step, Tensor, TensorId, View, arena::Arenas,
    copies::Halves, gradient::Gradients,
};

/// Records one model's phases; see the crate's documentation.
pub struct Recorder {
    tensors: Vec<Tensor>,
    names: HashMap<String, TensorId>,
    steps: Vec<Step>,
    phase: Phase,
    finished: HashSet<Phase>,
    scope: Vec<String>,
    binding_limit: u64,
    pub(crate) arenas: Arenas,
    pub(crate) gradients: Gradients,
    pub(crate) halves: Halves,
}

impl Recorder {
    /// A recorder for tensors of at most `binding_limit` bytes. With `add_to_gradients`, gradients of parameters are
    /// added to what the micro-batches before left there, and [`Phase::Begin`] must clear them.
    pub fn new(binding_limit: u64, add_to_gradients: bool) -> Self {
        Self {
            tensors: Vec::new(),
            names: HashMap::new(),
            steps: Vec::new(),
            phase: Phase::Begin,
            finished: HashSet::new(),
            scope: Vec::new(),
            binding_limit,
            arenas: Arenas::default(),
            gradients: Gradients::new(add_to_gradients),
            halves: Halves::default(),
        }
    }

    /// Bytes of the largest tensor.
    pub fn binding_limit(&self) -> u64 {
        self.binding_limit
    }

    /// What is recorded from here on belongs to `phase`. Only [`Phase::ForwardBackward`] keeps a tape.
    ///
    /// # Errors
    /// A phase that was left before.
    pub fn begin_phase(&mut self, phase: Phase) -> Result<(), ScheduleError> {
        if phase != self.phase {
            if !self.finished.insert(self.phase) || self.finished.contains(&phase) {
                return Err(self.fault("phase", "each phase in one piece", phase.to_string()));
            }
            self.phase = phase;
        }
        Ok(())
    }

    /// The phase being recorded.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Names the steps that `record` records: `layers.3` inside `model` becomes `model.layers.3`.
    ///
    /// # Errors
    /// Those of `record`.
    pub fn scope<T>(
        &mut self,
        name: &str,
        record: impl FnOnce(&mut Self) -> Result<T, ScheduleError>,
    ) -> Result<T, ScheduleError> {
        self.scope.push(name.to_owned());
        let result = record(self);
        self.scope.pop();
        result
    }

    pub(crate) fn scope_name(&self) -> String {
        self.scope.join(".")
    }

    pub(crate) fn swap_scope(&mut self, scope: Vec<String>) -> Vec<String> {
        std::mem::replace(&mut self.scope, scope)
    }

    pub(crate) fn scopes(&self) -> Vec<String> {
        self.scope.clone()
    }

    /// A new tensor. Activations and scratch take the scope as a prefix and a number where the name is taken: layers
    /// need not know how often they are used.
    ///
    /// # Errors
    /// A taken name of another role; a tensor without elements.
    pub fn new_tensor(
        &mut self,
        name: &str,
        role: Role,
        dtype: DType,
        shape: &[(&'static str, usize)],
    ) -> Result<TensorId, ScheduleError> {
        let shape = shape.iter().map(|&(name, extent)| Dim { name, extent }).collect();
        let mut name = name.to_owned();
        if !role.persistent() {
            if !self.scope.is_empty() {
                name = format!("{}.{name}", self.scope_name());
            }
            name = self.free_name(name);
        }
        self.push(Tensor { name, dtype, shape, role, within: None })
    }

    /// A new f32 activation.
    ///
    /// # Errors
    /// As [`Recorder::new_tensor`].
    pub fn activation(&mut self, name: &str, shape: &[(&'static str, usize)]) -> Result<TensorId, ScheduleError> {
        self.new_tensor(name, Role::Activation, DType::F32, shape)
    }

    /// A new f32 tensor for use inside one operation.
    ///
    /// # Errors
    /// As [`Recorder::new_tensor`].
    pub fn scratch(&mut self, name: &str, shape: &[(&'static str, usize)]) -> Result<TensorId, ScheduleError> {
        self.new_tensor(name, Role::Scratch, DType::F32, shape)
    }

    fn free_name(&self, name: String) -> String {
        if !self.names.contains_key(&name) {
            return name;
        }
        (2..).map(|n| format!("{name}#{n}")).find(|name| !self.names.contains_key(name)).unwrap_or(name)
    }

    pub(crate) fn push(&mut self, tensor: Tensor) -> Result<TensorId, ScheduleError> {
        if tensor.is_empty() {
            let got = tensor.to_string();
            return Err(self.fault("tensor", "extents of 1 and more", got));
        }
        let id = TensorId(self.tensors.len());
        if self.names.insert(tensor.name.clone(), id).is_some() {
            return Err(ScheduleError::Name { name: tensor.name, expected: "only once" });
        }
        self.tensors.push(tensor);
        Ok(id)
    }

    pub(crate) fn grow(&mut self, arena: TensorId, by: usize) {
        self.tensors[arena.0].shape[0].extent += by;
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// No such tensor.
    pub fn find(&self, name: &str) -> Result<TensorId, ScheduleError> {
        self.names.get(name).copied().ok_or_else(|| ScheduleError::Name { name: name.to_owned(), expected: "once" })
    }

    /// A tensor's description.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    pub(crate) fn all_tensors(&self) -> impl Iterator<Item = (TensorId, &Tensor)> {
        self.tensors.iter().enumerate().map(|(i, tensor)| (TensorId(i), tensor))
    }

    fn fault(&self, what: &str, expected: &str, got: String) -> ScheduleError {
        ScheduleError::Step {
            kernel: "recorder",
            what: what.to_owned(),
            expected: expected.to_owned(),
            got,
            scope: self.scope_name(),
        }
    }

    /// Records one kernel. `operands` are in the card's argument order; `accumulate` need not be among the params: it
    /// is 0, or what a gradient operand asks for.
    ///
    /// # Errors
    /// Operands or params that are not what the card says.
    pub fn run(&mut self, card: &'static Card, params: Params, operands: &[Operand]) -> Result<(), ScheduleError> {
        let Some(bound) = self.bind_gradients(card, operands)? else { return Ok(()) };
        if let Some((unknown, _)) =
            params.iter().find(|(name, _)| card.params.iter().all(|param| param.name() != *name))
        {
            return Err(self.fault(card.name, "the card's params", unknown.to_owned()));
        }
        let params = complete(card, &params, bound.accumulate);
        let precision = self.precision(card, &bound.views);
        let step = Step { phase: self.phase, scope: self.scope_name(), card, params, views: bound.views, precision };
        self.check(&step)?;
        if step.accesses().any(|(access, view)| access != Access::Write && self.wants_gradient(view.tensor)) {
            for (access, view) in step.accesses() {
                if access != Access::Read {
                    self.set_wants_gradient(view.tensor, true);
                }
            }
        }
        self.steps.push(step);
        for (from, into) in bound.add_after {
            self.add_into(from, into)?;
        }
        Ok(())
    }

    /// What is in half precision, by the first operand and the first result that can be; [`Recorder::check`] holds the
    /// others to it.
    fn precision(&self, card: &Card, views: &[View]) -> Precision {
        let is_half = |wanted| {
            let found = card.args.iter().zip(views).find(|(arg, _)| arg.half == wanted);
            found.is_some_and(|(_, view)| self.tensor(view.tensor).dtype == DType::F16)
        };
        let whole_result = card.args.iter().any(|arg| arg.half == Half::Result) && !is_half(Half::Result);
        match (is_half(Half::Operand), whole_result) {
            (false, _) => Precision::F32,
            (true, false) => Precision::F16,
            (true, true) => Precision::F16Operands,
        }
    }

    fn check(&self, step: &Step) -> Result<(), ScheduleError> {
        let fault = |what: &str, expected: String, got: String| {
            Err(ScheduleError::Step {
                kernel: step.card.name,
                what: what.to_owned(),
                expected,
                got,
                scope: step.scope.clone(),
            })
        };
        let names = |params: &mut dyn Iterator<Item = &'static str>| params.collect::<Vec<_>>().join(", ");
        let expected = names(&mut step.card.params.iter().map(|param| param.name()));
        let got = names(&mut step.params.iter().map(|(name, _)| name));
        let typed = step.card.params.iter().zip(step.params.iter()).all(|(param, (_, value))| {
            matches!((param, value), (Param::Dim(_), Value::U32(_)) | (Param::Scalar(_), Value::F32(_)))
        });
        if expected != got || !typed {
            return fault("params", expected, got);
        }
        if step.views.len() != step.card.args.len() {
            return fault("operands", step.card.args.len().to_string(), step.views.len().to_string());
        }
        for (arg, view) in step.card.args.iter().zip(&step.views) {
            let tensor = self.tensor(view.tensor);
            if arg.len(&step.params) != view.len || view.offset + view.len > tensor.len() {
                return Err(ScheduleError::Shape {
                    kernel: step.card.name,
                    arg: arg.name,
                    expected: arg.len(&step.params),
                    shape: format!("{} with {}", arg.shape.join(" x "), step.params),
                    got: view.len,
                    tensor: tensor.to_string(),
                    scope: step.scope.clone(),
                });
            }
            let dtype = arg.stored(step.precision);
            if dtype != tensor.dtype {
                return fault(arg.name, format!("{dtype:?}"), format!("{:?} {tensor}", tensor.dtype));
            }
            let alignment = View::alignment(dtype);
            if !view.offset.is_multiple_of(alignment) {
                return fault(arg.name, format!("an offset in multiples of {alignment}"), format!("{view:?}"));
            }
        }
        if step.card.variant(&Device::PORTABLE, &step.params, step.precision).is_none() {
            return fault("half precision", "extents in whole fours".to_owned(), step.params.to_string());
        }
        self.check_aliases(step)
    }

    /// What a dispatch writes, it binds nowhere else.
    fn check_aliases(&self, step: &Step) -> Result<(), ScheduleError> {
        let root = |view: View| self.tensor(view.tensor).within.map_or(view.tensor, |(arena, _)| arena);
        for (i, (access, view)) in step.accesses().enumerate() {
            let shared = |(j, other): (usize, &View)| i != j && root(*other) == root(view);
            if access != Access::Read && step.views.iter().enumerate().any(shared) {
                return Err(ScheduleError::Step {
                    kernel: step.card.name,
                    what: step.card.args[i].name.to_owned(),
                    expected: "an output in memory of its own".to_owned(),
                    got: format!("{}, which the step also binds elsewhere", self.tensor(view.tensor)),
                    scope: step.scope.clone(),
                });
            }
        }
        Ok(())
    }

    /// Plans the memory and ends the recording.
    ///
    /// # Errors
    /// A trainable parameter without a gradient where a backward pass was recorded; a tensor that is read before it is
    /// written; one larger than a binding.
    pub fn finish(self) -> Result<Schedule, ScheduleError> {
        self.check_gradients()?;
        self.check_written()?;
        let memory = Memory::plan(&self.tensors, &self.steps, self.binding_limit)?;
        Ok(Schedule { tensors: self.tensors, steps: self.steps, memory })
    }

    /// Activations hold nothing until a step of the same phase writes them.
    fn check_written(&self) -> Result<(), ScheduleError> {
        let mut written = HashSet::new();
        for step in &self.steps {
            for (access, view) in step.accesses() {
                let adds = access == Access::Write && step.params.accumulates();
                let transient = !self.tensor(view.tensor).role.persistent();
                let known = written.contains(&(step.phase, view.tensor));
                if transient && (access != Access::Write || adds) && !known {
                    return Err(ScheduleError::Step {
                        kernel: step.card.name,
                        what: "operand".to_owned(),
                        expected: "a tensor that a step before wrote in this phase".to_owned(),
                        got: self.tensor(view.tensor).to_string(),
                        scope: step.scope.clone(),
                    });
                }
                if access != Access::Read {
                    written.insert((step.phase, view.tensor));
                }
            }
        }
        Ok(())
    }
}

/// The card's params in its order, `accumulate` filled in where the caller left it to the recorder.
fn complete(card: &Card, params: &Params, accumulate: bool) -> Params {
    let value = |param: &Param| {
        let default = (param.name() == "accumulate").then_some(Value::U32(u32::from(accumulate)));
        Some((param.name(), params.get(param.name()).or(default)?))
    };
    card.params.iter().filter_map(value).collect()
}
