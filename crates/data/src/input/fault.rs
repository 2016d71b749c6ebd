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
    /// What was done about it.
    #[serde(default)]
    outcome: String,
}

impl Fault {
    /// At a byte of the (unpacked) file, from 0.
    pub(super) fn at_byte(path: &Path, offset: u64, what: impl Into<String>, outcome: &str) -> Self {
        Self::new(path, format!("byte {offset}"), what, outcome)
    }

    /// At a line, from 1.
    pub(super) fn at_line(path: &Path, line: u64, what: impl Into<String>) -> Self {
        Self::new(path, format!("line {line}"), what, "left out")
    }

    /// At a row of a table, from 1.
    pub(super) fn at_row(path: &Path, row: u64, what: impl Into<String>, outcome: &str) -> Self {
        Self::new(path, format!("row {row}"), what, outcome)
    }

    fn new(path: &Path, place: String, what: impl Into<String>, outcome: &str) -> Self {
        let what = what.into().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { file: path.display().to_string(), place, what, outcome: outcome.into() }
    }

    /// The fault as an error, where it is not to be passed over: nothing is done about it then.
    pub(crate) fn strict(self) -> DataError {
        DataError::Fault { fault: Self { outcome: String::new(), ..self }.to_string() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.file, self.place, self.what)?;
        if self.outcome.is_empty() { Ok(()) } else { write!(f, "; {}", self.outcome) }
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
            return Err(fault.strict());
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
