//! Text files: their bytes are the tokens, valid UTF-8 or not.

use crate::DataError;
use crate::mapped::{Joined, Mapped};
use std::ops::Range;
use std::path::Path;

/// A range of the bytes of text files that follow one another.
#[derive(Debug, Clone)]
pub struct Text {
    files: Joined,
    range: Range<u64>,
    /// What of the files this is, as a prefix to their names.
    part: &'static str,
}

impl Text {
    /// Opens files as one text, in the given order. With a `vocab_size` below 256, bytes at or above it are a fault.
    pub(crate) fn open<P: AsRef<Path>>(paths: &[P], vocab_size: usize) -> Result<Self, DataError> {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let file = Mapped::open(path.as_ref())?;
            check_bytes(&file, vocab_size)?;
            files.push(file);
        }
        let files = Joined::new(files, |file| file.bytes().len());
        Ok(Self { range: 0..files.len(), files, part: "" })
    }

    /// Splits the text into the first floor(0.9 n) of its n bytes for training and the rest for validation.
    ///
    /// # Errors
    /// Where the first part would be empty, that is for a single byte.
    pub(crate) fn split(self) -> Result<(Self, Self), DataError> {
        let n = self.len();
        if n < 2 {
            return Err(DataError::TooShort {
                corpus: self.describe(),
                purpose: "a training and a validation part".into(),
                expected: 2,
                got: n,
                remedy: "name a validation file",
            });
        }
        let middle = self.range.start + (u128::from(n) * 9 / 10) as u64;
        let (train, valid) = (self.range.start..middle, middle..self.range.end);
        let held_out = Self { range: valid, part: "the held-out tenth of ", ..self.clone() };
        Ok((Self { range: train, part: "the first nine tenths of ", ..self }, held_out))
    }

    pub(crate) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    pub(crate) fn describe(&self) -> String {
        format!("{}{}", self.part, self.files.describe())
    }

    /// Reads the tokens from `start` on, which end before [`Text::len`].
    pub(crate) fn read(&self, start: u64, out: &mut [u32]) {
        self.files.read(self.range.start + start, out, |file, first, out| {
            for (token, byte) in out.iter_mut().zip(&file.bytes()[first..]) {
                *token = u32::from(*byte);
            }
        });
    }
}

fn check_bytes(file: &Mapped, vocab_size: usize) -> Result<(), DataError> {
    if vocab_size > usize::from(u8::MAX) {
        return Ok(());
    }
    match file.bytes().iter().position(|byte| usize::from(*byte) >= vocab_size) {
        None => Ok(()),
        Some(position) => Err(DataError::TokenOutOfRange {
            location: file.path.display().to_string(),
            position: position as u64,
            id: u32::from(file.bytes()[position]),
            vocab_size,
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    fn files(folder: &tempfile::TempDir, contents: &[&[u8]]) -> Vec<PathBuf> {
        let write = |(i, bytes): (usize, &&[u8])| {
            let path = folder.path().join(format!("{i}.txt"));
            fs::write(&path, bytes).unwrap();
            path
        };
        contents.iter().enumerate().map(write).collect()
    }

    fn all(text: &Text) -> Vec<u32> {
        let mut out = vec![0; text.len() as usize];
        text.read(0, &mut out);
        out
    }

    #[test]
    fn files_follow_one_another_and_any_byte_is_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let text = Text::open(&files(&folder, &[b"ab", b"c", b"\xff\x00d"]), 256).unwrap();
        assert_eq!(all(&text), [97, 98, 99, 255, 0, 100]);
        for start in 0..6 {
            for end in start..=6 {
                let mut out = vec![0; end - start];
                text.read(start as u64, &mut out);
                assert_eq!(out, all(&text)[start..end]);
            }
        }
    }

    #[test]
    fn the_last_tenth_is_held_out() {
        for (n, trained) in [(2usize, 1), (9, 8), (10, 9), (11, 9), (19, 17), (20, 18), (1003, 902)] {
            let folder = tempfile::tempdir().unwrap();
            let bytes: Vec<u8> = (0..n).map(|i| (i % 251) as u8).collect();
            let (first, second) = bytes.split_at(n.div_ceil(3));
            let paths = files(&folder, &[first, second]);
            let (train, valid) = Text::open(&paths, 256).unwrap().split().unwrap();
            let tokens: Vec<u32> = bytes.iter().map(|byte| u32::from(*byte)).collect();
            assert_eq!(all(&train), tokens[..trained]);
            assert_eq!(all(&valid), tokens[trained..]);
        }
    }

    #[test]
    fn a_single_byte_cannot_be_split() {
        let folder = tempfile::tempdir().unwrap();
        let text = Text::open(&files(&folder, &[b"a"]), 256).unwrap();
        assert!(matches!(text.split(), Err(DataError::TooShort { expected: 2, got: 1, .. })));
    }

    #[test]
    fn bytes_beyond_a_small_vocabulary_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let paths = files(&folder, &[b"abc", b"abd"]);
        assert!(Text::open(&paths, 101).is_ok());
        let fault = Text::open(&paths, 100).unwrap_err();
        assert!(
            matches!(&fault, DataError::TokenOutOfRange { location, position: 2, id: 100, vocab_size: 100 }
                if location.ends_with("1.txt")),
            "{fault}"
        );
    }
}
