//! Writing a shard: it has its name when it is complete.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{HEADER_BYTES, Width};
use crate::DataError;

/// A shard that grows.
#[derive(Debug)]
pub(crate) struct ShardWriter {
    path: PathBuf,
    file: BufWriter<File>,
    width: Width,
    count: u64,
}

impl ShardWriter {
    /// Begins a shard at `path`, which is a temporary one.
    pub(crate) fn create(path: PathBuf, width: Width) -> Result<Self, DataError> {
        let mut file = File::create(&path).map_err(DataError::unwritable(&path))?;
        // The header comes last, when the count is known.
        file.write_all(&[0; HEADER_BYTES]).map_err(DataError::unwritable(&path))?;
        Ok(Self { path, file: BufWriter::with_capacity(1 << 18, file), width, count: 0 })
    }

    /// Adds tokens, which the width holds.
    pub(crate) fn add(&mut self, ids: &[u32]) -> Result<(), DataError> {
        self.count += ids.len() as u64;
        let written = ids.iter().try_for_each(|id| match self.width {
            Width::Two => self.file.write_all(&(*id as u16).to_le_bytes()),
            Width::Four => self.file.write_all(&id.to_le_bytes()),
        });
        written.map_err(DataError::unwritable(&self.path))
    }

    /// Tokens so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Writes the header, makes everything durable, and gives the shard its name.
    pub(crate) fn finish(self, name: &Path) -> Result<(), DataError> {
        let Self { path, file, width, count } = self;
        let fields = [width.magic(), width.version(), count as i32];
        let write = || {
            let mut file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&fields.map(i32::to_le_bytes).concat())?;
            file.sync_all()?;
            fs::rename(&path, name)
        };
        write().map_err(DataError::unwritable(name))
    }
}
