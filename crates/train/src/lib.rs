//! Evenkeel's training loop: optimizer, schedules, checkpoints, metrics, evaluation, generation.

pub mod checkpoint;
pub mod run_folder;
pub mod tensor_file;
