//! Files in memory, and reading several of them as one.

use crate::DataError;
use memmap2::Mmap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file mapped into memory. It has at least one byte.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) path: PathBuf,
    map: Mmap,
}

impl Mapped {
    /// Maps a file. The file must not be cut while it is mapped: the operating system ends the process then.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let fault = |reason: io::Error| DataError::unreadable(path, reason);
        // Before opening: to open a pipe would wait for its other end.
        let metadata = fs::metadata(path).map_err(fault)?;
        if !metadata.is_file() {
            let what = if metadata.is_dir() { "a directory" } else { "a pipe or a device" };
            return Err(DataError::NotAFile { path: path.into(), what });
        }
        if metadata.len() == 0 {
            return Err(DataError::Empty { path: path.into() });
        }
        let file = File::open(path).map_err(fault)?;
        // SAFETY: the map is only read; that nobody cuts the file meanwhile is the documented condition.
        let map = unsafe { Mmap::map(&file) }.map_err(fault)?;
        Ok(Self { path: path.into(), map })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }
}

/// Files whose tokens follow one another in the order of the files.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    files: Arc<[Mapped]>,
    /// For every file the number of tokens in it and before it.
    ends: Arc<[u64]>,
}

impl Joined {
    /// Joins files, of which `tokens` tells how many tokens each has.
    pub(crate) fn new(files: Vec<Mapped>, tokens: impl Fn(&Mapped) -> usize) -> Self {
        let ends = files.iter().scan(0, |end, file| {
            *end += tokens(file) as u64;
            Some(*end)
        });
        Self { ends: ends.collect(), files: files.into() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Tokens of each file.
    pub(crate) fn lens(&self) -> impl Iterator<Item = u64> {
        self.ends.iter().scan(0, |before, end| Some(end - std::mem::replace(before, *end)))
    }

    /// The name of the first file, and how many there are.
    pub(crate) fn describe(&self) -> String {
        match &*self.files {
            [] => "no files".into(),
            [file] => file.path.display().to_string(),
            [file, rest @ ..] => format!("{} and {} more", file.path.display(), rest.len()),
        }
    }

    /// Reads from token `start` on, which lies with all of `out` before [`Joined::len`]; `decode` fills its slice
    /// from the given token of a file on.
    pub(crate) fn read(&self, start: u64, mut out: &mut [u32], decode: impl Fn(&Mapped, usize, &mut [u32])) {
        let mut position = start;
        let mut file = self.ends.partition_point(|end| *end <= start);
        while !out.is_empty() && file < self.files.len() {
            let first = file.checked_sub(1).map_or(0, |before| self.ends[before]);
            let count = (self.ends[file] - position).min(out.len() as u64) as usize;
            let (here, rest) = out.split_at_mut(count);
            decode(&self.files[file], (position - first) as usize, here);
            position += count as u64;
            (out, file) = (rest, file + 1);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_readable_file_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let fault = |path: &Path| Mapped::open(path).unwrap_err();
        let missing = folder.path().join("missing.txt");
        assert!(matches!(fault(&missing), DataError::Missing { path } if path == missing));
        assert!(matches!(fault(folder.path()), DataError::NotAFile { what: "a directory", .. }));
        let empty = folder.path().join("empty.txt");
        fs::write(&empty, "").unwrap();
        assert!(matches!(fault(&empty), DataError::Empty { path } if path == empty));
        // A file where a folder is meant.
        assert!(matches!(fault(&empty.join("below.txt")), DataError::Unreadable { .. }));
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_no_file() {
        let fault = Mapped::open(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(fault, DataError::NotAFile { what: "a pipe or a device", .. }));
    }
}
