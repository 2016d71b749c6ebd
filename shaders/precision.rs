//! Half precision: which arguments lie in memory as f16, and how a text is compiled for that.
//!
//! There is one text for all forms: it imports `stored`, views what can be half as arrays of `Stored4`, four elements each,
//! reads them by `widen` and writes them by `narrow`. A device without the type f16 has them packed two to a word.

use std::fmt;

use crate::Device;

/// Which of a kernel's arguments a dispatch has in half precision: the operands' dtypes decide, not the layer. Arithmetic
/// and sums are f32 in all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// None.
    #[default]
    F32,
    /// All that are marked [`Half::Operand`] or [`Half::Result`].
    F16,
    /// All that are marked [`Half::Operand`]; the result stays f32.
    F16Operands,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::F16Operands => "f16 into f32",
        })
    }
}

/// Whether an argument can lie in memory in half precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// It cannot.
    Never,
    /// Together with all others of this kind: the WGSL views it as `Stored4`.
    Operand,
    /// Together with the operands, or not: the WGSL views it as `Result4`.
    Result,
}

/// How a variant's text is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Form {
    /// What is stored in half precision.
    pub precision: Precision,
    /// Whether that goes two to a word, for a device without f16.
    pub packed: bool,
}

impl Form {
    /// Nothing in half precision.
    pub const F32: Self = Self { precision: Precision::F32, packed: false };

    /// The form that `device` runs.
    pub fn of(precision: Precision, device: &Device) -> Self {
        Self { precision, packed: precision != Precision::F32 && !device.f16 }
    }

    /// Whether the text needs the device's f16 type.
    pub fn native(self) -> bool {
        self.precision != Precision::F32 && !self.packed
    }
}
