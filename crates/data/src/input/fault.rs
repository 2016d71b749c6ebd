//! What was found in files that is no text.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::DataError;

/// Faults that are kept to be shown; all are counted.
const SHOWN: usize = 10;

/// Something in a file that is no text: where, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    file: String,
    place: String,
    what: String,
}

impl Fault {
    /// At a byte of the (unpacked) file, from 0.
    pub(super) fn at_byte(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::new(path, format!("byte {offset}"), what)
    }

    /// At a line, from 1.
    pub(super) fn at_line(path: &Path, line: u64, what: impl Into<String>) -> Self {
        Self::new(path, format!("line {line}"), what)
    }

    /// At a row of a table, from 1.
    pub(super) fn at_row(path: &Path, row: u64, what: impl Into<String>) -> Self {
        Self::new(path, format!("row {row}"), what)
    }

    fn new(path: &Path, place: String, what: impl Into<String>) -> Self {
        let what = what.into().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { file: path.display().to_string(), place, what }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.file, self.place, self.what)
    }
}

/// All faults of some files: how many, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// How many.
    pub count: u64,
    /// The first ten.
    pub first: Vec<Fault>,
}

impl Faults {
    /// Counts a fault.
    ///
    /// # Errors
    /// The fault itself if `strict`.
    pub(crate) fn add(&mut self, fault: Fault, strict: bool) -> Result<(), DataError> {
        if strict {
            return Err(DataError::Fault { fault: fault.to_string() });
        }
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(fault);
        }
        Ok(())
    }

    /// The faults for a person, a line each and one for those that are not shown.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.first.iter().map(ToString::to_string).collect();
        if self.count > lines.len() as u64 {
            lines.push(format!("... and {} more faults like these", self.count - lines.len() as u64));
        }
        lines
    }
}
