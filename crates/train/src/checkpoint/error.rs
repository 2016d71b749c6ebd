//! The errors of run folders, checkpoints and tensor files.

use std::io;
use std::path::{Path, PathBuf};

use evenkeel_model::ModelError;

/// What can be wrong with a run folder, a checkpoint or a file inside one.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused an operation on a file or folder.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file's contents are not what its name promises.
    #[error("{}: expected {expected}, got {got}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: String,
        /// What it holds.
        got: String,
    },
    /// A model's configuration is wrong.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ModelError,
    },
    /// A tensor that belongs there is not there.
    #[error("tensor {name}: expected shape {shape:?}, got no such tensor ({})", path.display())]
    MissingTensor {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The file or folder.
        path: PathBuf,
    },
    /// A tensor that does not belong there is there.
    #[error("tensor {name}: expected no such tensor, got one of shape {shape:?} ({})", path.display())]
    UnexpectedTensor {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The file or folder.
        path: PathBuf,
    },
    /// A tensor has another shape, dtype or value than it should.
    #[error("tensor {name}: expected {expected}, got {got} ({})", path.display())]
    Tensor {
        /// The tensor.
        name: String,
        /// What it should be.
        expected: String,
        /// What it is.
        got: String,
        /// The file or folder.
        path: PathBuf,
    },
    /// A new run was to start in a folder that holds something already.
    #[error(
        "run folder {}: expected a new or empty folder, got one that holds {holds} \
         (choose another --out, or continue a run with --resume)", path.display()
    )]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// One of the entries.
        holds: String,
    },
    /// A study was to write among files that are not its own.
    #[error(
        "study folder {}: expected a new or empty folder, or one of this study, got one that holds {holds}; choose \
         another --out", path.display()
    )]
    NotAStudy {
        /// The folder.
        path: PathBuf,
        /// One of the entries.
        holds: String,
    },
    /// Another process computes in the run folder.
    #[error("run folder {} is in use by another process", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// What is to be a run is none.
    #[error("run folder {}: expected a folder with a run.toml, got {got}; `evenkeel pretrain` makes one", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is there.
        got: &'static str,
    },
    /// What is to be a model, or a run with one, is neither.
    #[error(
        "{}: expected a checkpoint (a folder with config.json) or a run (a folder with run.toml), got {got}; `evenkeel \
         pretrain` makes a run",
        path.display()
    )]
    NotAModel {
        /// The path.
        path: PathBuf,
        /// What is there.
        got: &'static str,
    },
}

impl CheckpointError {
    /// That `path` is no run.
    pub fn not_a_run(path: &Path) -> Self {
        Self::unfit(path, "a folder without it", |path, got| Self::NotARun { path, got })
    }

    /// That `path` is neither a checkpoint nor a run.
    pub fn not_a_model(path: &Path) -> Self {
        Self::unfit(path, "a folder with neither", |path, got| Self::NotAModel { path, got })
    }

    /// What `error` makes of what is at `path`; `folder` says it of a folder.
    fn unfit(path: &Path, folder: &'static str, error: impl FnOnce(PathBuf, &'static str) -> Self) -> Self {
        let got = match std::fs::metadata(path) {
            Ok(kind) if kind.is_dir() => folder,
            Ok(_) => "a file",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "nothing there",
            Err(error) => return Self::io("open", path)(error),
        };
        error(path.to_owned(), got)
    }

    /// A closure for `map_err` on an operation that was to `action` the `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn malformed(path: &Path, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), expected: expected.into(), got: got.into() }
    }
}

/// Text out of a file as part of an error line: without control characters, cut at a readable length.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 160;
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut line: String = text.chars().take(LONGEST).map(printable).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push_str("...");
    }
    line
}
