//! Pretrains small language models on any GPU that wgpu reaches, inside another program.
//!
//! [`Trainer`] trains on a device of its own ([`on_adapter`]), on that of the host ([`on_host`]) or on the CPU
//! ([`Compute::Cpu`]), within a budget per frame or step by step. [`Settings`] are those of the command line. `pollster::block_on`
//! is enough of an executor for everything here that is `async`.
//!
//! ```no_run
//! use std::time::Duration;
//! use evenkeel::{Settings, Trainer, on_host, wgpu};
//!
//! async fn example(device: wgpu::Device, queue: wgpu::Queue) -> Result<(), evenkeel::TrainError> {
//!     let settings = Settings::from_toml("[model]\npreset = \"nano\"\n[data]\ntrain = [\"book.txt\"]")?;
//!     let mut trainer = Trainer::new(&settings, &on_host(&device, &queue)).await?;
//!     trainer.on_step(|row| println!("step {}: loss {:.3}", row.step, row.loss));
//!     loop {
//!         // The host draws its frame, and gives 4 ms of it away.
//!         trainer.step_within(Duration::from_millis(4))?;
//!         if trainer.is_finished() {
//!             return Ok(());
//!         }
//!     }
//! }
//! ```
//!
//! `examples/embedded.rs` is a whole application. Below the trainer are the engine's crates under their own names, and the
//! wgpu that they are built on: devices of another version of it are another type.

mod trainer;

use std::sync::Arc;

pub use evenkeel_data as data;
pub use evenkeel_gpu as gpu;
pub use evenkeel_model as model;
pub use evenkeel_schedule as schedule;
pub use evenkeel_train as train;
pub use evenkeel_train::{Compute, StepRow, TrainError, run_folder::RunFolder, settings::Settings};
pub use trainer::Trainer;
pub use wgpu;

/// Computes on a host's device: with the features and limits that it has, beside whatever else the host does there. Of
/// cooperative matrices the adapter alone knows: [`gpu::Gpu::with_cooperative_matrices_of`], in [`Compute::Gpu`], has them used.
pub fn on_host(device: &wgpu::Device, queue: &wgpu::Queue) -> Compute {
    Compute::Gpu(Arc::new(gpu::Gpu::from_host(device.clone(), queue.clone())))
}

/// Opens a device of one's own, on the adapter whose name or driver has `text` in it, or on the best there is, and
/// tests that it computes rightly.
///
/// # Errors
/// No such adapter, one that does not open or computes wrongly.
pub async fn on_adapter(text: Option<&str>) -> Result<Compute, TrainError> {
    let gpu = gpu::select(text).await?.open().await?;
    gpu::self_test(&gpu).await?;
    Ok(Compute::Gpu(Arc::new(gpu)))
}
