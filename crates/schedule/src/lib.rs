//! Evenkeel's training step as data: recorder, reverse pass, memory plan, CPU executor.
