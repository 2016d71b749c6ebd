//! Evenkeel's wgpu executor: adapters, pipelines from cards, readback. The only crate that names wgpu.
//!
//! Nothing here blocks and nothing here panics on what a driver does: what waits is `async`, what fails is a
//! [`GpuError`]. Natively nobody but the caller drives a wgpu device, so the futures of this crate poll it themselves
//! whenever they are polled; `pollster::block_on` is all that a command line needs.

mod adapter;
mod beside;
mod cooperative;
mod device;
mod environment;
mod error;
mod executor;
mod grid;
mod once;
mod pace;
mod params;
mod pipeline;
mod plan;
mod platform;
mod readback;
mod self_test;
mod timing;
mod wait;

pub use adapter::{Adapter, AdapterSummary, adapters, select};
pub use device::{AllocatorReport, Gpu};
pub use environment::prepare_environment;
pub use error::GpuError;
pub use executor::{GpuExecutor, Progress};
pub use pipeline::Kernel;
pub use platform::now;
pub use readback::Readback;
pub use self_test::self_test;
