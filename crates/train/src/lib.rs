//! Evenkeel's training loop: optimizer, schedules, checkpoints, metrics, evaluation, generation.
