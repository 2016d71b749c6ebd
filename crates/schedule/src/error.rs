use crate::Phase;

/// Why a schedule cannot be recorded or used. All of these are found before the first step runs.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// An operand does not have the shape that the kernel's card asks for.
    #[error("{kernel}: {arg}: expected {expected} elements ({shape}), got {got} of {tensor} (in {scope})")]
    Shape {
        /// Kernel.
        kernel: &'static str,
        /// Argument.
        arg: &'static str,
        /// By the card and the params.
        expected: usize,
        /// The card's shape with its extents.
        shape: String,
        /// By the operand.
        got: usize,
        /// The operand's tensor.
        tensor: String,
        /// Scope of the recording.
        scope: String,
    },
    /// A step that no executor could run.
    #[error("{kernel}: {what}: expected {expected}, got {got} (in {scope})")]
    Step {
        /// Kernel.
        kernel: &'static str,
        /// The fact.
        what: String,
        /// What is right.
        expected: String,
        /// What there is.
        got: String,
        /// Scope of the recording.
        scope: String,
    },
    /// A tensor larger than one binding.
    #[error(
        "{tensor}: expected at most {limit} bytes (the adapter's storage binding), got {bytes}; a smaller batch, \
         sequence, hidden size or vocabulary fits"
    )]
    TooLarge {
        /// Tensor.
        tensor: String,
        /// Bytes of a binding.
        limit: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// A trainable parameter that the backward pass does not reach.
    #[error("{parameter}: expected a gradient, got none: nothing that the loss depends on reads it")]
    NoGradient {
        /// Parameter.
        parameter: String,
    },
    /// A name that is not in the schedule, or twice.
    #[error("tensor {name}: expected it {expected} in the schedule")]
    Name {
        /// The name.
        name: String,
        /// "once" or "only once".
        expected: &'static str,
    },
    /// Host data of the wrong size.
    #[error("{tensor}: expected {expected} bytes, got {got}")]
    Size {
        /// Tensor.
        tensor: String,
        /// Its bytes.
        expected: usize,
        /// The data's bytes.
        got: usize,
    },
    /// A phase without steps.
    #[error("phase {phase}: expected steps, got none")]
    Empty {
        /// The phase.
        phase: Phase,
    },
}
