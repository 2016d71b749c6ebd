//! What can go wrong in this crate. Every message is one line.

use std::path::PathBuf;

/// An error of the training crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file or folder that cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A text file that is not UTF-8.
    #[error("{}: expected UTF-8 text, got another byte at offset {offset}", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that is not UTF-8.
        offset: usize,
    },
    /// A run file that is not TOML.
    #[error("{}: line {line}: not TOML: {reason}", path.display())]
    NotToml {
        /// The run file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser expected.
        reason: String,
    },
    /// A section or key that the run file does not have.
    #[error("{name}: no such {what}, the nearest is {nearest} ({origin})")]
    UnknownSetting {
        /// The name as it was given.
        name: String,
        /// `section` or `key`.
        what: &'static str,
        /// The nearest name that exists.
        nearest: String,
        /// Where it was given: the run file, or the option of the command line.
        origin: String,
    },
    /// A setting with a value of the wrong type, out of its range, or at odds with another one.
    #[error("{name}: expected {expected}, got {got} ({origin})")]
    Setting {
        /// The key, as `section.key`.
        name: String,
        /// What the key accepts.
        expected: String,
        /// The value as it was given.
        got: String,
        /// Where it was given: the run file, the option of the command line, the preset, or the default.
        origin: String,
    },
    /// Settings that TOML cannot hold: a path that is not UTF-8, an integer of 2^63 or more.
    #[error("settings: expected values that a run file can hold, got: {reason}")]
    SettingsFormat {
        /// What cannot be written or read.
        reason: String,
    },
}

impl TrainError {
    /// `error` of writing or reading settings, on one line.
    pub(crate) fn settings_format(error: impl std::fmt::Display) -> Self {
        Self::SettingsFormat {
            reason: error.to_string().trim().replace('\n', " "),
        }
    }
}
