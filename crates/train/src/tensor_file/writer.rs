//! Writing safetensors files: equal tensors give equal bytes.

use std::collections::HashMap;
use std::io::{self, Write};

use evenkeel_model::choices;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::{CHUNK, LENGTH};

choices! {
    /// How the numbers of a file are stored.
    StoredDtype {
        /// 32 bits: what is computed with.
        F32 = "f32",
        /// IEEE's 16 bits: 11 of precision, magnitudes up to 65504.
        F16 = "f16",
        /// The upper half of an f32: 8 bits of precision, the same range.
        Bf16 = "bf16",
    }
}

impl StoredDtype {
    const fn in_header(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// What PyTorch calls it.
    pub const fn in_torch(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Bytes of an element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// `value` as it reads back: to the nearest, of two as near to the even one. Beyond the range it is infinite.
    pub fn rounded(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }

    fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        match self {
            Self::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::F16 => bytes.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes())),
            Self::Bf16 => bytes.extend(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes())),
        }
    }
}

/// A borrowed tensor on its way into a file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorRef<'a> {
    /// Its key in the file.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Elements, row by row.
    pub data: &'a [f32],
}

/// A file in the making: its header is written, its tensors follow one by one.
pub(crate) struct TensorWriter<W> {
    writer: W,
    dtype: StoredDtype,
    /// Elements of the tensors to come, the next one last.
    expected: Vec<usize>,
    chunk: Vec<u8>,
}

impl<W: Write> TensorWriter<W> {
    /// Writes the header for tensors of these names and shapes, with the metadata `{"format": "pt"}` that transformers
    /// asks for.
    ///
    /// # Errors
    /// Whatever `writer` reports, and [`io::ErrorKind::InvalidInput`] for a name given twice or a shape beyond memory.
    pub(crate) fn new(mut writer: W, dtype: StoredDtype, tensors: &[(&str, &[usize])]) -> io::Result<Self> {
        let mut end = 0_usize;
        let (mut infos, mut expected) = (Vec::with_capacity(tensors.len()), Vec::with_capacity(tensors.len()));
        for (i, &(name, shape)) in tensors.iter().enumerate() {
            if tensors[..i].iter().any(|(other, _)| *other == name) {
                return Err(invalid(format!("two tensors are named {name}")));
            }
            let (start, elements) = (end, shape.iter().product::<usize>());
            end = start + elements * dtype.size();
            let info = TensorInfo { dtype: dtype.in_header(), shape: shape.to_vec(), data_offsets: (start, end) };
            infos.push((name.to_owned(), info));
            expected.push(elements);
        }
        expected.reverse();
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let metadata = Metadata::new(Some(format), infos).map_err(|e| invalid(e.to_string()))?;
        let mut header = serde_json::to_vec(&metadata)?;
        // Aligned, so that readers which map the file can view the elements in place.
        header.resize(header.len().next_multiple_of(LENGTH as usize), b' ');
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(&header)?;
        Ok(Self { writer, dtype, expected, chunk: Vec::with_capacity(CHUNK) })
    }

    /// Writes the next tensor.
    ///
    /// # Errors
    /// Whatever the writer reports, and [`io::ErrorKind::InvalidInput`] for data that does not fill its shape.
    pub(crate) fn push(&mut self, values: &[f32]) -> io::Result<()> {
        let expected = self.expected.pop();
        if expected != Some(values.len()) {
            return Err(invalid(format!("{} elements for a shape of {}", values.len(), expected.unwrap_or(0))));
        }
        for values in values.chunks(CHUNK / size_of::<f32>()) {
            self.chunk.clear();
            self.dtype.encode(values, &mut self.chunk);
            self.writer.write_all(&self.chunk)?;
        }
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Whatever the writer reports, and [`io::ErrorKind::InvalidInput`] where a tensor is missing.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if !self.expected.is_empty() {
            return Err(invalid(format!("{} tensors less than the header says", self.expected.len())));
        }
        self.writer.flush()
    }
}

/// Writes the tensors as f32.
///
/// The order in the file is by name, as PyTorch's writer has it, whatever the order of `tensors`: equal tensors give
/// equal bytes.
///
/// # Errors
/// Whatever `writer` reports, and [`io::ErrorKind::InvalidInput`] for data that does not fill its shape or for two
/// tensors of one name; then nothing has been written.
pub fn write_tensors(writer: impl Write, tensors: &[TensorRef]) -> io::Result<()> {
    let mut sorted: Vec<&TensorRef> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(tensor) = sorted.iter().find(|tensor| tensor.shape.iter().product::<usize>() != tensor.data.len()) {
        return Err(invalid(format!("tensor {}: {} elements, not its shape's", tensor.name, tensor.data.len())));
    }
    let described: Vec<_> = sorted.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
    let mut writer = TensorWriter::new(writer, StoredDtype::F32, &described)?;
    sorted.iter().try_for_each(|tensor| writer.push(tensor.data))?;
    writer.finish()
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
