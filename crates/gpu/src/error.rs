//! What can go wrong between this crate and a driver.

use std::fmt::Write;

use evenkeel_schedule::Phase;
use evenkeel_shaders::ReflectError;

/// One line each; the adapter is named wherever the fault may be its own.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// The machine has no adapter at all.
    #[error(
        "adapter: expected a Vulkan, Metal or DX12 adapter, got none (install a driver; on Debian or Ubuntu the package \
         mesa-vulkan-drivers has a software one)"
    )]
    NoAdapter,
    /// No adapter matches the text that was asked for.
    #[error("adapter: expected a part of an adapter's or driver's name, got {text:?} (there are: {known})")]
    UnknownAdapter {
        /// What was asked for.
        text: String,
        /// The adapters there are.
        known: String,
    },
    /// The adapter gives no device.
    #[error("device: expected {adapter} to open, got: {reason}")]
    Open {
        /// Adapter.
        adapter: String,
        /// The driver's reason.
        reason: String,
    },
    /// The device is gone: unplugged, reset, destroyed.
    #[error("device lost: {reason} ({adapter})")]
    Lost {
        /// Adapter.
        adapter: String,
        /// The driver's reason.
        reason: String,
    },
    /// The device made no progress for too long.
    #[error("{what}: expected progress within {seconds} s, got none ({adapter} hangs)")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The limit.
        seconds: u64,
        /// Adapter.
        adapter: String,
    },
    /// Memory that the device refused.
    #[error("{what}: expected {bytes} bytes of device memory, got out of memory ({adapter})")]
    OutOfMemory {
        /// What it was for.
        what: String,
        /// Bytes asked for.
        bytes: u64,
        /// Adapter.
        adapter: String,
    },
    /// More than a limit of the device allows.
    #[error("{what}: expected at most {most} ({limit} of {adapter}), got {got}")]
    Limit {
        /// What was asked for.
        what: String,
        /// WebGPU's name of the limit.
        limit: &'static str,
        /// The device's limit.
        most: u64,
        /// Asked for.
        got: u64,
        /// Adapter.
        adapter: String,
    },
    /// A kernel that this device cannot run.
    #[error("{kernel} ({variant}): expected {feature}, got an adapter without it ({adapter})")]
    Unsupported {
        /// Kernel.
        kernel: &'static str,
        /// Variant.
        variant: &'static str,
        /// What is missing.
        feature: String,
        /// Adapter.
        adapter: String,
    },
    /// Something that needs an optional feature of the device.
    #[error("{what}: expected an adapter with {feature}, got {adapter}")]
    Feature {
        /// What was asked for.
        what: &'static str,
        /// What is missing.
        feature: &'static str,
        /// Adapter.
        adapter: String,
    },
    /// wgpu or the driver refused a call.
    #[error("{what}: refused: {reason} ({adapter})")]
    Refused {
        /// The call.
        what: String,
        /// wgpu's reason.
        reason: String,
        /// Adapter.
        adapter: String,
    },
    /// A kernel's WGSL is not what its card says.
    #[error(transparent)]
    Reflect(#[from] ReflectError),
    /// A dispatch's params or arguments are not those of its card.
    #[error("{kernel}: {what}: expected {expected}, got {got}")]
    Arguments {
        /// Kernel.
        kernel: &'static str,
        /// The param or argument.
        what: String,
        /// By the card.
        expected: String,
        /// What was given.
        got: String,
    },
    /// Host data of another size than the tensor.
    #[error("{tensor}: expected {expected} bytes, got {got}")]
    Size {
        /// Tensor.
        tensor: String,
        /// Its bytes.
        expected: usize,
        /// The data's bytes.
        got: usize,
    },
    /// A phase was started before the one before it was submitted to its end.
    #[error("phase {phase}: expected the phase before to be advanced to its end, got {left} dispatches left")]
    Unfinished {
        /// The phase that was to start.
        phase: Phase,
        /// Dispatches that were not submitted.
        left: usize,
    },
    /// The adapter computes wrongly.
    #[error(
        "self-test {test}: expected {expected}, got {got} at index {index} ({adapter} computes wrongly; choose another)"
    )]
    SelfTest {
        /// What was tried.
        test: &'static str,
        /// First wrong element.
        index: usize,
        /// Its value by arithmetic.
        expected: f64,
        /// The device's value.
        got: f32,
        /// Adapter.
        adapter: String,
    },
}

/// An error and its causes in one line.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let separator = if text.is_empty() { "" } else { ": " };
        let _ = write!(text, "{separator}{error}");
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
