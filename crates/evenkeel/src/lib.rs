//! Pretrains small language models on any GPU that wgpu reaches.
//!
//! The engine's crates under one name, with the wgpu that they are built on: [`train::Compute`] is a device of one's own
//! ([`gpu::select`], [`gpu::Adapter::open`]) or of a host program's ([`gpu::Gpu::from_host`]), [`train::pretrain`] a whole run,
//! [`train::Program`] and [`train::Trainer`] its parts.

pub use evenkeel_data as data;
pub use evenkeel_gpu as gpu;
pub use evenkeel_model as model;
pub use evenkeel_schedule as schedule;
pub use evenkeel_train as train;
pub use wgpu;
