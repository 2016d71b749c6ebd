//! One row of the table of keys, and the check of a value against it.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;

use super::layers::Values;
use crate::error::TrainError;

/// A key of the run file: all that is known about it, once.
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// All of them hold for an accepted number.
    pub(super) conditions: &'static [Condition],
    pub(super) default: Fallback,
    pub(super) meaning: &'static str,
}

/// The type of a key's value.
pub(super) enum Kind {
    /// An integer from 0 to `max`, called `name`.
    Integer {
        name: &'static str,
        max: i64,
    },
    /// A finite number. The device computes in f32, so conditions must survive that rounding.
    Number,
    Flag,
    Text,
    Path,
    /// One of the words, or a path.
    WordOrPath(&'static [&'static str]),
    /// One path or a list of them, held as a list.
    Paths,
    Choice(&'static [&'static str]),
    /// A list of `count` choices.
    Choices {
        names: &'static [&'static str],
        count: usize,
    },
    Texts,
}

/// A bound on a number.
pub(super) enum Condition {
    AtLeast(u8),
    Above(u8),
    AtMost(u8),
    Below(u8),
}

/// The value of a key that no layer names.
pub(super) enum Fallback {
    /// This TOML value.
    Toml(&'static str),
    /// The preset's value.
    Preset,
    /// This TOML value in a KAT. Other models have none.
    Kat(&'static str),
    /// The TOML value of the update rule.
    Optimizer { adamw: &'static str, novograd: &'static str },
    /// An integer computed from other keys, none where it is not one; the text is the formula.
    Derived(&'static str, fn(&Values) -> Option<i64>),
    /// No value.
    Unset,
}

/// A Rust type that a setting can have.
pub(super) trait Setting {
    const KIND: Kind;
}

impl Setting for usize {
    // Shapes on the device are u32.
    const KIND: Kind = Kind::Integer { name: "u32", max: u32::MAX as i64 };
}

impl Setting for u64 {
    // TOML integers are i64.
    const KIND: Kind = Kind::Integer { name: "integer", max: i64::MAX };
}

impl Setting for f64 {
    const KIND: Kind = Kind::Number;
}

impl Setting for bool {
    const KIND: Kind = Kind::Flag;
}

impl Setting for PathBuf {
    const KIND: Kind = Kind::Path;
}

impl Setting for String {
    const KIND: Kind = Kind::Text;
}

impl Setting for Vec<String> {
    const KIND: Kind = Kind::Texts;
}

impl Setting for Vec<PathBuf> {
    const KIND: Kind = Kind::Paths;
}

impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = T::KIND;
}

impl Key {
    /// `section.key`.
    pub(super) fn full_name(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The type and bounds of the value, as errors and the table of keys word them.
    pub(super) fn expected(&self) -> String {
        let conditions: Vec<_> = self.conditions.iter().map(Condition::to_string).collect();
        format!("{} {}", self.kind, conditions.join(" and ")).trim_end().to_owned()
    }

    /// The default as the table of keys shows it.
    pub(super) fn default_text(&self) -> String {
        match self.default {
            Fallback::Toml(text) | Fallback::Derived(text, _) | Fallback::Kat(text) => text.to_owned(),
            Fallback::Optimizer { adamw, novograd } => format!("{adamw}, novograd: {novograd}"),
            Fallback::Preset => "the preset's".to_owned(),
            Fallback::Unset => "none".to_owned(),
        }
    }

    /// `value` in the form in which the settings hold it (paths absolute, one path as a list, numbers as floats).
    ///
    /// # Errors
    /// A value of another type or out of range.
    pub(super) fn accept(&self, value: &Value, origin: &str) -> Result<Value, TrainError> {
        let accepted = match (&self.kind, value) {
            (Kind::Integer { max, .. }, &Value::Integer(x)) => {
                ((0..=*max).contains(&x) && self.holds(x as f64)).then(|| value.clone())
            }
            (Kind::Number, &Value::Integer(x)) => self.number(x as f64),
            (Kind::Number, &Value::Float(x)) => self.number(x),
            (Kind::Flag, Value::Boolean(_)) => Some(value.clone()),
            (Kind::Text, Value::String(_)) => Some(value.clone()),
            (Kind::WordOrPath(words), Value::String(_)) if is_one_of(words, value) => Some(value.clone()),
            (Kind::Path | Kind::WordOrPath(_), Value::String(path)) => absolute(path),
            (Kind::Paths, Value::String(path)) => absolute(path).map(|path| Value::Array(vec![path])),
            (Kind::Paths, Value::Array(paths)) => {
                paths.iter().map(|path| absolute(path.as_str()?)).collect::<Option<_>>().map(Value::Array)
            }
            (Kind::Choice(names), name) => is_one_of(names, name).then(|| value.clone()),
            (Kind::Choices { names, count }, Value::Array(chosen)) => {
                (chosen.len() == *count && chosen.iter().all(|name| is_one_of(names, name))).then(|| value.clone())
            }
            (Kind::Texts, Value::Array(texts)) => texts.iter().all(Value::is_str).then(|| value.clone()),
            _ => None,
        };
        accepted.ok_or_else(|| self.error(self.expected(), shown(value), origin))
    }

    /// The error that this key has an unfit value.
    pub(super) fn error(&self, expected: impl Into<String>, got: impl Into<String>, origin: &str) -> TrainError {
        TrainError::Setting {
            name: self.full_name(),
            expected: expected.into(),
            got: got.into(),
            origin: origin.to_owned(),
        }
    }

    fn number(&self, x: f64) -> Option<Value> {
        let rounded = f64::from(x as f32);
        (rounded.is_finite() && self.holds(x) && self.holds(rounded)).then_some(Value::Float(x))
    }

    fn holds(&self, x: f64) -> bool {
        self.conditions.iter().all(|condition| condition.holds(x))
    }
}

impl Condition {
    fn holds(&self, x: f64) -> bool {
        match *self {
            Self::AtLeast(bound) => x >= bound.into(),
            Self::Above(bound) => x > bound.into(),
            Self::AtMost(bound) => x <= bound.into(),
            Self::Below(bound) => x < bound.into(),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">= {bound}"),
            Self::Above(bound) => write!(f, "> {bound}"),
            Self::AtMost(bound) => write!(f, "<= {bound}"),
            Self::Below(bound) => write!(f, "< {bound}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { name, .. } => f.write_str(name),
            Self::Number => f.write_str("finite f32"),
            Self::Flag => f.write_str("true or false"),
            Self::Text => f.write_str("string"),
            Self::Path => f.write_str("path"),
            Self::WordOrPath(words) => write!(f, "{} or path", quoted(words)),
            Self::Paths => f.write_str("path or list of paths"),
            Self::Choice(names) => f.write_str(&quoted(names)),
            Self::Choices { names, count } => write!(f, "list of {count}, each {}", quoted(names)),
            Self::Texts => f.write_str("list of strings"),
        }
    }
}

fn is_one_of(names: &[&str], value: &Value) -> bool {
    value.as_str().is_some_and(|name| names.contains(&name))
}

fn quoted(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    quoted.join(" or ")
}

/// A value on one line.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(shown).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Table(_) => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// `path` made absolute against the current directory; none if it is empty or the directory is not UTF-8.
fn absolute(path: &str) -> Option<Value> {
    let absolute = std::path::absolute(Path::new(path)).ok()?;
    Some(Value::String(absolute.to_str()?.to_owned()))
}
