//! Safetensors files: bounded reading, deterministic writing.
//!
//! A [`TensorFile`] that opened has a header whose tensors tile the file's body exactly, so that no allocation made
//! while reading exceeds the file's own size. Files are read, not mapped: one that shrinks while it is read is an
//! error and not a fault of the process, and every tensor goes straight into its own vector.

mod header;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::checkpoint::error::{CheckpointError, excerpt};

pub(crate) use writer::TensorWriter;
pub use writer::{StoredDtype, TensorRef, write_tensors};

/// The longest header read: a hundred thousand tensors of about a hundred bytes each, and more.
const MAX_HEADER: u64 = 16 << 20;
/// Bytes of the length that precedes the header.
const LENGTH: u64 = 8;
/// Bytes converted at a time; a multiple of every element size.
const CHUNK: usize = 1 << 16;

/// An open safetensors file whose header has been checked.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    /// Where the tensors' bytes begin.
    body: u64,
    metadata: Metadata,
}

impl TensorFile {
    /// Opens a file and checks its header against its length.
    ///
    /// # Errors
    /// A file that cannot be read; a header that is cut, too long, not JSON, or whose tensors overlap, leave gaps or
    /// reach outside of the file.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let (mut file, length) = open_regular(path)?;
        let malformed = |expected: String, got: String| CheckpointError::malformed(path, expected, got);
        if length < LENGTH {
            let got = format!("a file of {length} bytes");
            return Err(malformed("a safetensors header".into(), got));
        }
        let read = CheckpointError::io("read", path);
        let mut prefix = [0; LENGTH as usize];
        let mut header = Vec::new();
        let declared = file.read_exact(&mut prefix).map(|()| u64::from_le_bytes(prefix));
        let header_length = match declared {
            Err(error) => return Err(read(error)),
            Ok(declared) if declared > MAX_HEADER.min(length - LENGTH) => {
                let expected = format!("a safetensors header of at most {} bytes", MAX_HEADER.min(length - LENGTH));
                return Err(malformed(expected, format!("a declared {declared}")));
            }
            Ok(declared) => declared,
        };
        let header_bytes = (&mut file).take(header_length).read_to_end(&mut header).map_err(read)?;
        if header_bytes as u64 != header_length {
            let got = format!("{header_bytes} bytes, the file shrank");
            return Err(malformed(format!("a header of {header_length} bytes"), got));
        }
        let metadata = header::parse(&header)
            .map_err(|reason| malformed("a valid safetensors header".into(), excerpt(&reason)))?;
        let (body, described) = (LENGTH + header_length, metadata.data_len() as u64);
        if body.checked_add(described) != Some(length) {
            let got = format!("a header that describes {described}");
            return Err(malformed(format!("{} bytes of tensors", length - body), got));
        }
        Ok(Self { path: path.to_owned(), file, body, metadata })
    }

    /// The path it was opened at.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, in the order of the file.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// The shape of a tensor, if the file has it.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| info.shape.as_slice())
    }

    /// Reads a tensor as f32. It may be stored as f32, f16 or bf16.
    ///
    /// # Errors
    /// A tensor that is not there, of another shape or dtype, or with an element that is not finite.
    pub fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        let values = self.read_as_stored(name, shape)?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => {
                let got = format!("{} at element {index}", values[index]);
                Err(self.wrong(name, "finite values", got))
            }
        }
    }

    /// Reads a tensor as [`TensorFile::read`] does, whether or not its elements are finite.
    ///
    /// # Errors
    /// A tensor that is not there, or of another shape or dtype.
    pub fn read_as_stored(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        let Some(info) = self.metadata.info(name) else {
            return Err(CheckpointError::MissingTensor {
                name: excerpt(name),
                shape: shape.to_vec(),
                path: self.path.clone(),
            });
        };
        if info.shape != shape {
            let (expected, got) = (format!("shape {shape:?}"), format!("{:?}", info.shape));
            return Err(self.wrong(name, expected, got));
        }
        let decode: fn(&[u8], &mut Vec<f32>) = match info.dtype {
            Dtype::F32 => |bytes, values| {
                decode_elements(bytes, values, f32::from_le_bytes);
            },
            Dtype::F16 => |bytes, values| {
                decode_elements(bytes, values, |e| f16::from_le_bytes(e).to_f32());
            },
            Dtype::BF16 => |bytes, values| {
                decode_elements(bytes, values, |e| bf16::from_le_bytes(e).to_f32());
            },
            other => return Err(self.wrong(name, "dtype F32, F16 or BF16", format!("{other:?}"))),
        };
        let (start, end) = info.data_offsets;
        self.read_elements(start as u64, end - start, shape.iter().product(), decode)
            .map_err(CheckpointError::io("read", &self.path))
    }

    fn read_elements(
        &mut self,
        start: u64,
        bytes: usize,
        elements: usize,
        decode: fn(&[u8], &mut Vec<f32>),
    ) -> io::Result<Vec<f32>> {
        self.file.seek(SeekFrom::Start(self.body + start))?;
        let mut values = Vec::with_capacity(elements);
        let mut chunk = vec![0; CHUNK.min(bytes)];
        let mut left = bytes;
        while left > 0 {
            let part = &mut chunk[..CHUNK.min(left)];
            self.file.read_exact(part)?;
            decode(part, &mut values);
            left -= part.len();
        }
        Ok(values)
    }

    fn wrong(&self, name: &str, expected: impl Into<String>, got: String) -> CheckpointError {
        CheckpointError::Tensor { name: excerpt(name), expected: expected.into(), got, path: self.path.clone() }
    }
}

fn decode_elements<const SIZE: usize>(bytes: &[u8], values: &mut Vec<f32>, decode: impl Fn([u8; SIZE]) -> f32) {
    let (elements, _) = bytes.as_chunks::<SIZE>();
    values.extend(elements.iter().map(|&element| decode(element)));
}

/// Opens a file that exists and is a regular one; returns its length in bytes.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64), CheckpointError> {
    // Looked at before it is opened, because opening a pipe would wait for its writer.
    let kind = std::fs::metadata(path).map_err(CheckpointError::io("open", path))?;
    if !kind.is_file() {
        let got = if kind.is_dir() { "a folder" } else { "a special file" };
        return Err(CheckpointError::malformed(path, "a file", got));
    }
    let file = File::open(path).map_err(CheckpointError::io("open", path))?;
    let length = file.metadata().map_err(CheckpointError::io("open", path))?.len();
    Ok((file, length))
}

/// Reads a text file of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, CheckpointError> {
    let (file, _) = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(CheckpointError::io("read", path))?;
    if bytes.len() as u64 > limit {
        let expected = format!("at most {limit} bytes of text");
        return Err(CheckpointError::malformed(path, expected, "more"));
    }
    String::from_utf8(bytes).map_err(|e| CheckpointError::malformed(path, "UTF-8 text", e.utf8_error().to_string()))
}
