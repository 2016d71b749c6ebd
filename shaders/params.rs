//! The numbers that a dispatch is given: extents, switches and scalars, by the names that the WGSL uses.

use std::fmt;

/// What a card's uniform block holds beyond the grid header (`groups`, `group_offset`), which every kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    /// An extent or an index: `u32` in the WGSL, a capital letter of the design where it is an extent.
    Dim(&'static str),
    /// A hyper-parameter: `f32` in the WGSL.
    Scalar(&'static str),
}

impl Param {
    /// The member's name in the WGSL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dim(name) | Self::Scalar(name) => name,
        }
    }
}

/// The value of one [`Param`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Of a [`Param::Dim`].
    U32(u32),
    /// Of a [`Param::Scalar`].
    F32(f32),
}

/// Values of a card's params, in the order they were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(Vec<(&'static str, Value)>);

impl Params {
    /// No values yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds extents: `Params::dims([("R", rows), ("C", channels)])`.
    pub fn dims<const N: usize>(dims: [(&'static str, usize); N]) -> Self {
        dims.into_iter().fold(Self::new(), |params, (name, extent)| params.with_dim(name, extent))
    }

    /// Adds one extent. Extents beyond `u32::MAX` saturate; the recorder refuses tensors far smaller than that.
    pub fn with_dim(mut self, name: &'static str, extent: usize) -> Self {
        self.0.push((name, Value::U32(u32::try_from(extent).unwrap_or(u32::MAX))));
        self
    }

    /// Adds one scalar.
    pub fn with_scalar(mut self, name: &'static str, value: f32) -> Self {
        self.0.push((name, Value::F32(value)));
        self
    }

    /// The value called `name`.
    pub fn get(&self, name: &str) -> Option<Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Value)> + '_ {
        self.0.iter().copied()
    }

    /// The extent called `name`.
    ///
    /// # Panics
    /// When the card does not declare it: the recorder checks params against cards, so only a faulty card gets here.
    pub fn dim(&self, name: &str) -> usize {
        match self.get(name) {
            Some(Value::U32(extent)) => extent as usize,
            other => panic!("params: expected the extent {name}, got {other:?}"),
        }
    }

    /// The scalar called `name`.
    ///
    /// # Panics
    /// As [`Params::dim`].
    pub fn scalar(&self, name: &str) -> f32 {
        match self.get(name) {
            Some(Value::F32(value)) => value,
            other => panic!("params: expected the scalar {name}, got {other:?}"),
        }
    }

    /// Whether a kernel that can add to its output is asked to: its `accumulate` switch, absent = no.
    pub fn accumulates(&self) -> bool {
        matches!(self.get("accumulate"), Some(Value::U32(1..)))
    }
}

impl FromIterator<(&'static str, Value)> for Params {
    fn from_iter<I: IntoIterator<Item = (&'static str, Value)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            match value {
                Value::U32(v) => write!(f, "{space}{name}={v}")?,
                Value::F32(v) => write!(f, "{space}{name}={v}")?,
            }
        }
        Ok(())
    }
}
