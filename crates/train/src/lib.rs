//! Evenkeel's training loop: optimizer, schedules, checkpoints, metrics, evaluation, generation.

pub mod error;
pub mod learning_rate;
pub mod settings;
