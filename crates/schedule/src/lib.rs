//! Evenkeel's training step as data.
//!
//! Layers record kernels into a [`Recorder`], each forward with a closure that records its backward; the recorder runs
//! the closures in reverse, plans the memory from liveness, and returns a [`Schedule`]: a flat, printable list of steps
//! over tensors that are all placed before anything is allocated. The GPU executor (crate `evenkeel-gpu`) and the
//! [`CpuExecutor`] run the same schedule. Nothing here knows wgpu.

mod arena;
mod copies;
mod cpu;
mod error;
mod gradient;
mod memory;
mod recorder;
mod step;
mod table;
mod tensor;

pub use arena::{ParameterDecl, ParameterRun};
pub use cpu::CpuExecutor;
pub use error::ScheduleError;
pub use evenkeel_shaders::{DType, Params};
pub use gradient::Target;
pub use memory::{Memory, PlannedBuffer};
pub use recorder::Recorder;
pub use step::{Operand, Phase, Schedule, Step, StepTime, View};
pub use table::Table;
pub use tensor::{Dim, Role, Tensor, TensorId};
