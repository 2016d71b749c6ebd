//! Values as tables of sections, run files, `--set` and flags give them: each is found in the table of keys and checked.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::key::{Key, shown};
use super::keys::{KEYS, SECTIONS};
use super::{Flags, Sources};
use crate::error::TrainError;

/// A layer in which values are given, in rising precedence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    /// A run file, or one of several tables of sections.
    Table(usize),
    Set,
    Flag,
}

/// A checked value and where it was given.
pub(super) struct Given {
    pub(super) key: &'static Key,
    pub(super) value: Value,
    pub(super) layer: Layer,
    pub(super) origin: String,
}

/// All values of `sources` in rising precedence.
///
/// # Errors
/// Any value that its key does not accept, also one that a later value replaces.
pub(super) fn all(sources: &Sources) -> Result<Vec<Given>, TrainError> {
    let mut given = Vec::new();
    if let Some(path) = &sources.file {
        from_table(&read(path)?, 0, &path.display().to_string(), &mut given)?;
    }
    for text in &sources.set {
        given.push(from_set(text)?);
    }
    from_flags(&sources.flags, &mut given)?;
    Ok(given)
}

impl Given {
    fn new(key: &'static Key, value: &Value, layer: Layer, origin: &str) -> Result<Self, TrainError> {
        Ok(Self { key, value: key.accept(value, origin)?, layer, origin: origin.to_owned() })
    }
}

/// All values of `tables`, each with its origin, in rising precedence.
///
/// # Errors
/// As [`all`].
pub(super) fn tables(tables: &[(String, Table)]) -> Result<Vec<Given>, TrainError> {
    let mut given = Vec::new();
    for (i, (origin, table)) in tables.iter().enumerate() {
        from_table(table, i, origin, &mut given)?;
    }
    Ok(given)
}

fn from_table(table: &Table, index: usize, origin: &str, given: &mut Vec<Given>) -> Result<(), TrainError> {
    for (section, keys) in table {
        if !SECTIONS.contains(&section.as_str()) {
            return Err(match keys {
                Value::Table(_) => unknown_section(section, origin),
                _ => unknown_key(section, origin),
            });
        }
        let Value::Table(keys) = keys else {
            return Err(TrainError::Setting {
                name: section.clone(),
                expected: "a section".to_owned(),
                got: shown(keys),
                origin: origin.to_owned(),
            });
        };
        for (name, value) in keys {
            let key = find(&format!("{section}.{name}"), origin)?;
            given.push(Given::new(key, value, Layer::Table(index), origin)?);
        }
    }
    Ok(())
}

/// A TOML file.
///
/// # Errors
/// A file that cannot be read or is not TOML.
pub(crate) fn read(path: &Path) -> Result<Table, TrainError> {
    let bytes = fs::read(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes)
        .map_err(|error| TrainError::NotUtf8 { path: path.to_owned(), offset: error.utf8_error().valid_up_to() })?;
    parse(&text, path)
}

/// The text of a TOML file.
pub(super) fn parse(text: &str, path: &Path) -> Result<Table, TrainError> {
    text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        TrainError::NotToml {
            path: path.to_owned(),
            line: 1 + text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count(),
            reason: error.message().replace('\n', " "),
        }
    })
}

/// `section.key=value`, where value is TOML, or else a bare string unless it starts like a TOML string, list or table.
fn from_set(text: &str) -> Result<Given, TrainError> {
    let origin = "--set";
    let split = text.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
    let Some((name, value)) = split.filter(|(name, _)| !name.is_empty()) else {
        return Err(TrainError::Setting {
            name: origin.to_owned(),
            expected: "section.key=value".to_owned(),
            got: format!("{text:?}"),
            origin: "command line".to_owned(),
        });
    };
    let key = find(name, origin)?;
    let value = match value.parse::<Value>() {
        Ok(value) => value,
        Err(error) if value.starts_with(['"', '\'', '[', '{']) => {
            let got = format!("{value:?}, not TOML: {}", error.message().replace('\n', " "));
            return Err(key.error(key.expected(), got, origin));
        }
        Err(_) => Value::String(value.to_owned()),
    };
    Given::new(key, &value, Layer::Set, origin)
}

fn from_flags(flags: &Flags, given: &mut Vec<Given>) -> Result<(), TrainError> {
    let Flags { preset, data, valid, tokenizer, text_field, strict, steps, seed } = flags;
    let mut push = |name: &str, value: &Value, origin: &str| {
        given.push(Given::new(find(name, origin)?, value, Layer::Flag, origin)?);
        Ok::<(), TrainError>(())
    };
    if let Some(preset) = preset {
        push("model.preset", &Value::String(preset.clone()), "--preset")?;
    }
    for (name, paths, origin) in [("data.train", data, "--data"), ("data.valid", valid, "--valid")] {
        if !paths.is_empty() {
            push(name, &utf8(name, paths, origin)?, origin)?;
        }
    }
    let texts = [("data.tokenizer", tokenizer, "--tokenizer"), ("data.text_field", text_field, "--text-field")];
    for (name, text, origin) in texts {
        if let Some(text) = text {
            push(name, &Value::String(text.clone()), origin)?;
        }
    }
    if *strict {
        push("data.strict", &Value::Boolean(true), "--strict")?;
    }
    for (name, integer, origin) in [("train.steps", steps, "--steps"), ("train.seed", seed, "--seed")] {
        if let Some(integer) = integer {
            push(name, &Value::Integer(*integer), origin)?;
        }
    }
    Ok(())
}

/// `paths` as a TOML list.
fn utf8(name: &str, paths: &[PathBuf], origin: &str) -> Result<Value, TrainError> {
    let path = |path: &PathBuf| match path.to_str() {
        Some(path) => Ok(Value::String(path.to_owned())),
        None => Err(TrainError::Setting {
            name: name.to_owned(),
            expected: "a path in UTF-8".to_owned(),
            got: format!("{path:?}"),
            origin: origin.to_owned(),
        }),
    };
    paths.iter().map(path).collect::<Result<_, _>>().map(Value::Array)
}

fn find(full_name: &str, origin: &str) -> Result<&'static Key, TrainError> {
    KEYS.iter().find(|key| key.full_name() == full_name).ok_or_else(|| unknown_key(full_name, origin))
}

/// The nearest key is one of the same name in another section, or else the one with the fewest edits.
fn unknown_key(given: &str, origin: &str) -> TrainError {
    let name = given.rsplit('.').next();
    let nearest = KEYS.iter().map(|key| {
        let full_name = key.full_name();
        let edits = strsim::damerau_levenshtein(&full_name, given);
        (Some(key.name) != name, edits, full_name)
    });
    unknown(given, "key", nearest.min().map(|(_, _, full_name)| full_name), origin)
}

fn unknown_section(given: &str, origin: &str) -> TrainError {
    let nearest = SECTIONS.iter().min_by_key(|section| strsim::damerau_levenshtein(section, given));
    unknown(given, "section", nearest.map(|section| (*section).to_owned()), origin)
}

fn unknown(given: &str, what: &'static str, nearest: Option<String>, origin: &str) -> TrainError {
    TrainError::UnknownSetting {
        name: given.escape_debug().to_string(),
        what,
        nearest: nearest.unwrap_or_default(),
        origin: origin.to_owned(),
    }
}
