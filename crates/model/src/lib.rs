//! Evenkeel's language models: configuration, parameters, layers with their backward.

pub mod config;
pub mod error;
pub mod init;
pub mod layers;
pub mod llama;
pub mod parameters;

pub use config::LlamaConfig;
pub use error::ModelError;
pub use parameters::{ParameterKind, ParameterSpec};
