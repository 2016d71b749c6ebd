//! Evenkeel's language models: configuration, parameters, layers with their backward.

mod choices;
pub mod config;
pub mod error;
pub mod generation;
pub mod init;
mod kat;
pub mod layers;
mod llama;
pub mod parameters;
pub mod rational;
pub mod transformer;

pub use config::{Arch, ModelConfig};
pub use error::ModelError;
pub use parameters::{ParameterKind, ParameterSpec};
