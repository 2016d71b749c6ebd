//! The files of a run that grow by rows of JSON.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::{METRICS_FILE, RunFolder, SAMPLES_FILE};
use crate::checkpoint::error::{CheckpointError, excerpt};
use crate::event_file::EventFile;
use crate::inspection::run::{Sample, read_rows};

impl RunFolder {
    /// Opens `metrics.jsonl`, and TensorBoard's event file beside it, for rows of steps after `done`. Later rows, of steps
    /// that will be done again, are removed, and a last row that a kill has torn.
    ///
    /// # Errors
    /// A row, not the last, without a step; whatever the system refuses. Then the file is as it was.
    pub fn metrics(&self, done: u64) -> Result<MetricsFile, CheckpointError> {
        let rows = Rows::open(self, METRICS_FILE, done)?;
        let (earlier, _) = read_rows(&rows.path)?;
        Ok(MetricsFile { rows, events: EventFile::open(self, done, &earlier)? })
    }

    /// Opens `samples.jsonl` for samples of steps after `done`, as [`RunFolder::metrics`] opens its file.
    ///
    /// # Errors
    /// As there.
    pub fn samples(&self, done: u64) -> Result<SamplesFile, CheckpointError> {
        let rows = Rows::open(self, SAMPLES_FILE, done)?;
        Ok(SamplesFile { rows })
    }

    /// Removes from the file `name` every row of a step after `step`, and a last row that is torn. Gives the last step that
    /// is left.
    fn cut_rows_after(&self, name: &str, step: u64) -> Result<Option<u64>, CheckpointError> {
        let path = self.path().join(name);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(CheckpointError::io("open", &path))?,
        };
        let mut lines = BufReader::new(file).split(b'\n').enumerate().peekable();
        let (mut kept, mut last) = (Vec::new(), None);
        while let Some((index, line)) = lines.next() {
            let line = line.map_err(CheckpointError::io("read", &path))?;
            let row_step = serde_json::from_slice::<Value>(&line).ok().and_then(|row| row.get("step")?.as_u64());
            match row_step {
                Some(row_step) if row_step <= step => {
                    kept.extend_from_slice(&line);
                    kept.push(b'\n');
                    last = Some(row_step);
                }
                Some(_) => {}
                None if lines.peek().is_none() => {}
                None => {
                    let got = excerpt(&String::from_utf8_lossy(&line));
                    let expected = format!("a row with a step in line {}", index + 1);
                    return Err(CheckpointError::malformed(&path, expected, got));
                }
            }
        }
        self.replace(name, |writer| writer.write_all(&kept))?;
        Ok(last)
    }
}

/// A file of rows, open for appending.
#[derive(Debug)]
struct Rows {
    path: PathBuf,
    file: File,
    /// Step of the last row.
    last: Option<u64>,
}

impl Rows {
    fn open(folder: &RunFolder, name: &str, done: u64) -> Result<Self, CheckpointError> {
        let last = folder.cut_rows_after(name, done)?;
        let path = folder.path().join(name);
        let file =
            OpenOptions::new().create(true).append(true).open(&path).map_err(CheckpointError::io("open", &path))?;
        Ok(Self { path, file, last })
    }

    /// Appends one row, in one write: a reader sees whole rows, but for a kill within the write.
    fn append(&mut self, row: &impl Serialize) -> Result<Value, CheckpointError> {
        let row = serde_json::to_value(row).map_err(|error| CheckpointError::io("write", &self.path)(error.into()))?;
        self.file.write_all(format!("{row}\n").as_bytes()).map_err(CheckpointError::io("write", &self.path))?;
        self.last = row.get("step").and_then(Value::as_u64);
        Ok(row)
    }
}

/// `metrics.jsonl` and its event file, open for appending.
#[derive(Debug)]
pub struct MetricsFile {
    rows: Rows,
    events: EventFile,
}

impl MetricsFile {
    /// Appends one row.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn append(&mut self, row: &impl Serialize) -> Result<(), CheckpointError> {
        let row = self.rows.append(row)?;
        self.events.append(&row)
    }
}

/// `samples.jsonl`, open for appending.
#[derive(Debug)]
pub struct SamplesFile {
    rows: Rows,
}

impl SamplesFile {
    /// Appends one sample.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn append(&mut self, sample: &Sample) -> Result<(), CheckpointError> {
        self.rows.append(sample).map(drop)
    }

    /// Whether the last sample is of this step.
    #[must_use]
    pub fn ends_with(&self, step: u64) -> bool {
        self.rows.last == Some(step)
    }
}
