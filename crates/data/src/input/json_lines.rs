//! Files with an object in JSON on each line.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{Fault, Item, Take, cut_off, take_document};

/// Longer lines are faults: memory stays bounded in a file without line breaks.
const LONGEST_LINE: u64 = 64 << 20;

/// Reads the documents that the field `field` holds. A line without one is a fault; an empty line is not.
pub(super) fn read(source: &mut dyn Read, path: &Path, field: &str, take: Take) {
    let mut source = BufReader::with_capacity(1 << 17, source);
    let (mut line, mut offset) = (Vec::new(), 0);
    for number in 1.. {
        line.clear();
        let ended = source.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        if let Err(error) = ended {
            // The rest of the line is missing: one fault, not two.
            take(cut_off(path, &error, offset + line.len() as u64));
            return;
        }
        if line.is_empty() {
            return;
        }
        offset += line.len() as u64;
        // Some editors put a mark of the byte order in front of a file.
        let object = line.strip_prefix("\u{feff}".as_bytes()).filter(|_| number == 1).unwrap_or(&line);
        let too_long = line.len() as u64 == LONGEST_LINE && line.last() != Some(&b'\n');
        let go_on = if too_long {
            let what = format!("expected at most {LONGEST_LINE} bytes, got more");
            let passed = source.skip_until(b'\n');
            offset += passed.as_ref().map_or(0, |count| *count as u64);
            take(Item::Fault(Fault::at_line(path, number, what)))
                && passed.map_err(|error| take(cut_off(path, &error, offset))).is_ok()
        } else if object.trim_ascii().is_empty() {
            true
        } else {
            match document(object.trim_ascii_end(), field) {
                Ok(text) => take_document(&text, take),
                Err(what) => take(Item::Fault(Fault::at_line(path, number, what))),
            }
        };
        if !go_on {
            return;
        }
    }
}

/// The document of a line, or what is wrong with it.
fn document(line: &[u8], field: &str) -> Result<String, String> {
    if let Err(error) = std::str::from_utf8(line) {
        return Err(format!("expected UTF-8, got another byte at column {}", error.valid_up_to() + 1));
    }
    let mut json = serde_json::Deserializer::from_slice(line);
    let found = Field(field).deserialize(&mut json).and_then(|found| json.end().map(|()| found));
    match found {
        Ok(Some(Value::String(text))) => Ok(text),
        Ok(Some(other)) => Err(format!("expected a string in field {field:?}, got {}", kind(&other))),
        Ok(None) => Err(format!("expected a field {field:?}, got an object without it")),
        // Every line is a line 1 to the parser.
        Err(error) => Err(format!("expected an object in JSON, got: {error}").replace("line 1 column", "column")),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Reads one field of an object and passes over all others.
struct Field<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
