//! The errors of this crate.

/// What can be wrong with a model description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The configuration is not a JSON object.
    #[error("model config: expected a JSON object, got {got}")]
    NotAnObject {
        /// What stands there instead, or the parser's complaint.
        got: String,
    },
    /// A field is missing, of the wrong type or impossible.
    #[error("{field}: expected {expected}, got {got} (model config)")]
    Config {
        /// The field, as it is spelled in `config.json`.
        field: &'static str,
        /// What the field may be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// The configuration asks for a model that this engine does not compute.
    #[error("{field} = {value} is not supported: expected {expected} (model config)")]
    Unsupported {
        /// The field, as it is spelled in `config.json`.
        field: &'static str,
        /// Its value, as JSON.
        value: String,
        /// The values that are supported.
        expected: &'static str,
    },
}
