//! The numbers of `metrics.jsonl` as TensorBoard reads them, beside it in the run folder.
//!
//! A file of records (TensorFlow's `record_writer.h`): the length, its checksum, the data and its checksum, where the
//! data is an `Event` of protocol buffers (`event.proto`). A run that goes on writes its events up to the checkpoint
//! into a file with a later name and removes the old one, so that nothing is there twice; TensorBoard, also one that is
//! watching, takes up the later file and forgets at its start event what it had.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::checkpoint::error::CheckpointError;
use crate::run_folder::RunFolder;

const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".evenkeel";
/// What TensorBoard expects in the first event.
const VERSION: &str = "brain.Event:2";

/// Numbers of a row that go by their own names.
const SCALARS: [&str; 8] =
    ["loss", "lr", "grad_norm", "tokens_per_s", "valid_loss", "valid_bpb", "tvr_rescaled", "loss_scale"];

/// An event file, open for appending.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Opens a new event file of a run, with the events of steps up to `done`. Of a run that has none they are those of
    /// its `rows`, with the time of now.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub(crate) fn open(run: &RunFolder, done: u64, rows: &[Value]) -> Result<Self, CheckpointError> {
        let old = names(run)?;
        let now = now();
        let kept = match old.last() {
            Some(name) => {
                let path = run.path().join(name);
                events_until(&fs::read(&path).map_err(CheckpointError::io("read", &path))?, done)
            }
            None => rows.iter().filter_map(|row| Event::of_row(row, now)).flat_map(|event| event.record()).collect(),
        };
        let last = old.last().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok());
        let seconds = last.map_or(0, |last: u64| last + 1).max(now as u64);
        let name = format!("{PREFIX}{seconds:010}{SUFFIX}");
        let start = [Content::Version, Content::Start].map(|content| Event { wall_time: now, step: 0, content });
        run.replace(&name, |writer| {
            start.iter().try_for_each(|event| writer.write_all(&event.record()))?;
            writer.write_all(&kept)
        })?;
        for name in old {
            let path = run.path().join(name);
            fs::remove_file(&path).map_err(CheckpointError::io("remove", &path))?;
        }
        let path = run.path().join(name);
        let file = OpenOptions::new().append(true).open(&path).map_err(CheckpointError::io("open", &path))?;
        Ok(Self { path, file })
    }

    /// Appends the numbers of a row of `metrics.jsonl`, in one write.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub(crate) fn append(&mut self, row: &Value) -> Result<(), CheckpointError> {
        let Some(event) = Event::of_row(row, now()) else { return Ok(()) };
        self.file.write_all(&event.record()).map_err(CheckpointError::io("write", &self.path))
    }
}

/// The event files of a run, by name.
fn names(run: &RunFolder) -> Result<Vec<String>, CheckpointError> {
    let entries = fs::read_dir(run.path()).map_err(CheckpointError::io("list", run.path()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX)).collect();
    names.sort();
    Ok(names)
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

struct Event {
    wall_time: f64,
    step: u64,
    content: Content,
}

enum Content {
    Version,
    /// A reader that has events of this step or later forgets them.
    Start,
    Scalars(Vec<(String, f64)>),
}

impl Event {
    /// All numbers of a row; none without a step or numbers.
    fn of_row(row: &Value, wall_time: f64) -> Option<Self> {
        let number = |name: &str| Some((name.to_owned(), row.get(name)?.as_f64()?));
        let mut scalars: Vec<_> = SCALARS.iter().filter_map(|name| number(name)).collect();
        for (weight, statistics) in row.get("weights").and_then(Value::as_object).into_iter().flatten() {
            for field in ["std", "update_ratio"] {
                let value = statistics.get(field).and_then(Value::as_f64);
                scalars.extend(value.map(|value| (format!("weight_{field}/{weight}"), value)));
            }
        }
        let places = row.get("residual_stream").and_then(Value::as_array).into_iter().flatten();
        for (place, statistics) in places.enumerate() {
            for field in ["absmax", "median", "kurtosis"] {
                let value = statistics.get(field).and_then(Value::as_f64);
                scalars.extend(value.map(|value| (format!("residual_stream_{field}/{place}"), value)));
            }
        }
        let step = row.get("step")?.as_u64()?;
        (!scalars.is_empty()).then_some(Self { wall_time, step, content: Content::Scalars(scalars) })
    }

    /// The event as a record.
    fn record(&self) -> Vec<u8> {
        let mut data = Vec::new();
        data.push(field(1, FIXED64));
        data.extend(self.wall_time.to_le_bytes());
        if self.step > 0 {
            data.push(field(2, VARINT));
            varint(self.step, &mut data);
        }
        match &self.content {
            Content::Version => bytes(3, VERSION.as_bytes(), &mut data),
            Content::Scalars(scalars) => {
                let mut summary = Vec::new();
                for (tag, scalar) in scalars {
                    let mut value = Vec::new();
                    bytes(1, tag.as_bytes(), &mut value);
                    value.push(field(2, FIXED32));
                    value.extend((*scalar as f32).to_le_bytes());
                    bytes(1, &value, &mut summary);
                }
                bytes(5, &summary, &mut data);
            }
            // SessionLog.status = START
            Content::Start => bytes(7, &[field(1, VARINT), 1], &mut data),
        }
        let length = (data.len() as u64).to_le_bytes();
        let parts = [&length[..], &checksum(&length), &data, &checksum(&data)];
        parts.concat()
    }
}

/// TensorFlow's masked CRC-32C: stored beside what it covers, a plain one would weaken the checksum of the whole.
fn checksum(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Wire types of protocol buffers.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// The key of a field with a number below 16.
const fn field(number: u8, wire_type: u8) -> u8 {
    number << 3 | wire_type
}

fn varint(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn bytes(number: u8, data: &[u8], to: &mut Vec<u8>) {
    to.push(field(number, BYTES));
    varint(data.len() as u64, to);
    to.extend(data);
}

/// The records of scalars of steps up to `done`, as they stand in `file`. What follows a torn record is lost.
fn events_until(mut file: &[u8], done: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    while let Some((record, data)) = first_record(file) {
        if step_of_scalars(data).is_some_and(|step| step <= done) {
            kept.extend(record);
        }
        file = &file[record.len()..];
    }
    kept
}

/// The first record, with and without its frame; none if it is not whole.
fn first_record(file: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = file.split_first_chunk::<8>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let data = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let whole = *sum == checksum(length) && rest.get(data.len()..data.len() + 4)? == checksum(data);
    whole.then(|| (&file[..data.len() + 16], data))
}

/// The step of an event that has a summary.
fn step_of_scalars(mut data: &[u8]) -> Option<u64> {
    let (mut step, mut summary) = (0, false);
    while let Some((&key, rest)) = data.split_first() {
        data = match key & 7 {
            VARINT => {
                let (value, rest) = first_varint(rest)?;
                if key == field(2, VARINT) {
                    step = value;
                }
                rest
            }
            FIXED64 => rest.get(8..)?,
            FIXED32 => rest.get(4..)?,
            BYTES => {
                summary |= key == field(5, BYTES);
                let (length, rest) = first_varint(rest)?;
                rest.get(usize::try_from(length).ok()?..)?
            }
            _ => return None,
        };
    }
    summary.then_some(step)
}

fn first_varint(data: &[u8]) -> Option<(u64, &[u8])> {
    let length = data.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
    let (digits, rest) = data.split_at(length);
    let value = digits.iter().rev().fold(0_u64, |value, digit| value << 7 | u64::from(digit & 0x7f));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    /// Written by TensorBoard's own writer: `assets/golden/make_events.py`.
    const GOLDEN: &[u8] = include_bytes!("../../../assets/golden/events.out.tfevents.golden");

    fn ours() -> Vec<u8> {
        let at = |offset: f64| 1_764_000_000.25 + offset;
        let weights = json!({ "lm_head.weight": { "std": 0.02, "mean": 0.0, "absmax": 0.1, "update_ratio": 1e-3 } });
        let stream = json!([{ "absmax": 4.5, "median": 0.5, "kurtosis": 3.25 }]);
        let row = json!({
            "step": 1, "loss": 5.5, "lr": 0.002, "grad_norm": 1.25, "tokens": 512, "tokens_per_s": 12_345.678,
            "weights": weights, "residual_stream": stream,
        });
        let events = [
            Event { wall_time: at(0.0), step: 0, content: Content::Version },
            Event { wall_time: at(0.0), step: 0, content: Content::Start },
            Event::of_row(&row, at(1.0)).unwrap(),
            Event::of_row(&json!({ "step": 300, "valid_loss": 1.5 }), at(2.0)).unwrap(),
            Event::of_row(&json!({ "step": 70_000, "loss": 0.75, "grad_norm": null }), at(3.0)).unwrap(),
        ];
        events.iter().flat_map(Event::record).collect()
    }

    #[test]
    fn events_are_those_of_tensorboards_writer() {
        assert!(ours() == GOLDEN, "expected the golden file's bytes, got others");
        assert!(Event::of_row(&json!({ "step": 3, "tokens": 5 }), 0.0).is_none());
        assert!(Event::of_row(&json!({ "loss": 3.0 }), 0.0).is_none());
    }

    #[test]
    fn events_after_a_step_and_torn_ones_are_left_out() {
        let all = ours();
        let scalars = events_until(&all, 70_000);
        // The first two are the version and the start: 16 bytes of frame and 9 of time, and 15 or 4 bytes.
        assert_eq!(scalars, all[25 + 15 + 25 + 4..]);
        let until = events_until(&all, 69_999);
        assert!(scalars.starts_with(&until) && !until.is_empty() && until.len() < scalars.len());
        assert_eq!(events_until(&all, 300), until);
        assert!(events_until(&all, 0).is_empty());
        for end in 0..all.len() {
            assert_eq!(events_until(&all[..end], 300), events_until(&all[..end], u64::MAX));
        }
        let mut broken = all;
        let middle = broken.len() - 40;
        broken[middle] ^= 1;
        assert_eq!(events_until(&broken, 70_000), until);
        assert!(events_until(b"\xff\xff\xff\xff\xff\xff\xff\xff and no record", 1).is_empty());
    }
}
