//! Tensors: a name, an element type, named extents, a role.

use std::fmt;

use evenkeel_shaders::DType;

/// A tensor of one schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub(crate) usize);

/// What a tensor is for; decides how long it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Weights.
    Parameter,
    /// Copies of weights in half precision, which matrix products read.
    Copy,
    /// Gradients of weights.
    Gradient,
    /// Optimizer state of the weights' size.
    Moment,
    /// Lives from its first write to its last read; shares memory with others.
    Activation,
    /// As an activation, inside one operation.
    Scratch,
    /// Written by the host for every step.
    Batch,
    /// Written by the host once.
    Constant,
    /// Small values that outlive a step: step state, losses, metrics.
    State,
    /// Keys and values of sequences that are being generated.
    Cache,
}

impl Role {
    /// All roles, in the order of reports.
    pub const ALL: [Self; 10] = [
        Self::Parameter,
        Self::Copy,
        Self::Gradient,
        Self::Moment,
        Self::Activation,
        Self::Scratch,
        Self::Batch,
        Self::Constant,
        Self::State,
        Self::Cache,
    ];

    /// Whether a tensor of this role keeps its memory to itself over the whole run.
    pub const fn persistent(self) -> bool {
        !matches!(self, Self::Activation | Self::Scratch)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Parameter => "parameters",
            Self::Copy => "half copies",
            Self::Gradient => "gradients",
            Self::Moment => "moments",
            Self::Activation => "activations",
            Self::Scratch => "scratch",
            Self::Batch => "batch",
            Self::Constant => "constants",
            Self::State => "state",
            Self::Cache => "cache",
        })
    }
}

/// A named extent, such as `R` = 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dim {
    /// The design's letter.
    pub name: &'static str,
    /// Its value.
    pub extent: usize,
}

/// One tensor of a schedule.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Unique in the schedule; of a parameter: its checkpoint key.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Vec<Dim>,
    /// What it is for.
    pub role: Role,
    /// The arena that holds it and its first element there; none for a tensor with memory of its own.
    pub within: Option<(TensorId, usize)>,
}

impl Tensor {
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().map(|dim| dim.extent).product()
    }

    /// Whether it has no elements. The recorder accepts none such.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.name)?;
        for (i, dim) in self.shape.iter().enumerate() {
            write!(f, "{}{}={}", if i == 0 { "" } else { ", " }, dim.name, dim.extent)?;
        }
        write!(f, ")")
    }
}
