//! The schedule: steps over tensors, as plain data.

use std::{fmt, ops::Range};

use evenkeel_shaders::{Access, Card, DType, Params, Precision};

use crate::{Memory, ScheduleError, Tensor, TensorId};

/// Parts of a training step and of the other things a model does; the executors run one at a time, and host work
/// stands only between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Once before the micro-batches of a step: clears what they add to, and copies weights to half precision.
    Begin,
    /// Forward and backward of one micro-batch.
    ForwardBackward,
    /// Before the update of a measured step: a copy of the weights.
    Snapshot,
    /// Norm, clip, optimizer, metrics.
    Update,
    /// After the update of a measured step: statistics of weights, update and residual stream.
    Measure,
    /// After the update of some steps: weights that outgrew their target are rescaled.
    Rescale,
    /// Forward and loss of one evaluation batch.
    Evaluate,
    /// Forward of a piece of one sequence's prompt, into its cache, to the logits of one position.
    Prefill,
    /// Forward of one token of every sequence, with their caches, to their logits.
    Decode,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Begin => "begin",
            Self::ForwardBackward => "forward-backward",
            Self::Snapshot => "snapshot",
            Self::Update => "update",
            Self::Measure => "measure",
            Self::Rescale => "rescale",
            Self::Evaluate => "evaluate",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        })
    }
}

/// What a layer binds to an argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Operand {
    /// A whole tensor.
    Whole(TensorId),
    /// Elements `offset..offset + len` of a tensor; the offset is a multiple of [`View::alignment`].
    Part {
        /// Tensor.
        tensor: TensorId,
        /// First element.
        offset: usize,
        /// Elements.
        len: usize,
    },
    /// The gradient with respect to this tensor, to be written or added to: which of the two is the recorder's
    /// business. The step falls away where no gradient is wanted.
    GradientTo(TensorId),
}

impl From<TensorId> for Operand {
    fn from(tensor: TensorId) -> Self {
        Self::Whole(tensor)
    }
}

/// A resolved operand: a range of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Tensor.
    pub tensor: TensorId,
    /// First element.
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

impl View {
    /// Views begin at multiples of this many elements of four bytes.
    pub const ALIGNMENT: usize = Self::alignment(DType::F32);

    /// Views begin at multiples of this many elements: 256 bytes, the storage offset alignment of
    /// `Limits::default()`.
    pub const fn alignment(dtype: DType) -> usize {
        256 / dtype.size()
    }
}

/// One kernel to run.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub phase: Phase,
    /// Which layer asked for it.
    pub scope: String,
    /// Kernel.
    pub card: &'static Card,
    /// All of the card's params, in its order.
    pub params: Params,
    /// In the card's argument order.
    pub views: Vec<View>,
    /// What of it is stored in half precision, by the dtypes of its tensors.
    pub precision: Precision,
}

impl Step {
    /// Floating-point operations, by the card.
    pub fn flops(&self) -> u64 {
        (self.card.flops)(&self.params)
    }

    /// Bytes read and written, with a perfect cache.
    pub fn bytes(&self) -> u64 {
        self.card.bytes(&self.params, self.precision)
    }

    /// Argument accesses with their views.
    pub fn accesses(&self) -> impl Iterator<Item = (Access, View)> + '_ {
        self.card.args.iter().map(|arg| arg.access).zip(self.views.iter().copied())
    }
}

/// When a step ran, in seconds of its device's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTime {
    /// Index into [`Schedule::steps`].
    pub step: usize,
    /// Begin.
    pub began: f64,
    /// End.
    pub ended: f64,
}

/// Everything an executor needs: tensors, steps, memory.
#[derive(Debug)]
pub struct Schedule {
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) steps: Vec<Step>,
    pub(crate) memory: Memory,
}

impl Schedule {
    /// All tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (TensorId, &Tensor)> {
        self.tensors.iter().enumerate().map(|(i, tensor)| (TensorId(i), tensor))
    }

    /// One tensor.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// The tensor called `name`.
    pub fn find(&self, name: &str) -> Result<TensorId, ScheduleError> {
        let found = self.tensors.iter().position(|tensor| tensor.name == name);
        found.map(TensorId).ok_or_else(|| ScheduleError::Name { name: name.to_owned(), expected: "once" })
    }

    /// All steps of all phases, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Indices of a phase's steps: each phase is recorded in one piece.
    pub fn phase(&self, phase: Phase) -> Range<usize> {
        let first = self.steps.iter().position(|step| step.phase == phase).unwrap_or(0);
        let count = self.steps[first..].iter().take_while(|step| step.phase == phase).count();
        first..first + count
    }

    /// Where everything lies.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Planned buffer, first byte and bytes of a view.
    pub fn place(&self, view: View) -> (usize, Range<usize>) {
        let tensor = self.tensor(view.tensor);
        let (root, base) = tensor.within.unwrap_or((view.tensor, 0));
        let start = (base + view.offset) * tensor.dtype.size();
        (self.memory.buffer_of(root), start..start + view.len * tensor.dtype.size())
    }

    /// The whole of a tensor.
    pub fn whole(&self, tensor: TensorId) -> View {
        View { tensor, offset: 0, len: self.tensor(tensor).len() }
    }

    /// Floating-point operations of a phase, by the cards.
    pub fn flops(&self, phase: Phase) -> u64 {
        self.steps[self.phase(phase)].iter().map(Step::flops).sum()
    }
}
