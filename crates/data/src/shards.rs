//! Token shards in the formats of llm.c: a header of 256 little-endian i32 (magic, version, count of tokens, zeros), then
//! `count` little-endian ids, of 2 bytes as its GPT-2 data have them or of 4 as its LLaMA 3 data.

mod writer;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::DataError;
use crate::mapped::{Joined, Mapped};
pub(crate) use writer::ShardWriter;

const HEADER_BYTES: usize = 256 * 4;

/// How ids are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// 2 bytes: GPT-2's format.
    Two,
    /// 4 bytes: LLaMA 3's.
    Four,
}

impl Width {
    const ALL: [Self; 2] = [Self::Two, Self::Four];

    /// The narrowest that holds all ids of a vocabulary.
    pub(crate) fn of(vocab_size: usize) -> Self {
        if vocab_size <= 1 << 16 { Self::Two } else { Self::Four }
    }

    fn magic(self) -> i32 {
        match self {
            Self::Two => 20_240_520,
            Self::Four => 20_240_801,
        }
    }

    fn version(self) -> i32 {
        match self {
            Self::Two => 1,
            Self::Four => 7,
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// Token shards that follow one another, or a range of their tokens. Every token is below the vocabulary size they
/// were opened with.
#[derive(Debug, Clone)]
pub struct Shards {
    files: Joined,
    range: Range<u64>,
    /// What of the text or the files this is, as a prefix to its name.
    part: &'static str,
    /// The text that they were prepared from, if that is what a person knows them by.
    text: Option<Arc<str>>,
}

impl Shards {
    /// Opens shards as one corpus, in the given order, and checks headers, lengths and every token.
    pub(crate) fn open<P: AsRef<Path>>(paths: &[P], vocab_size: usize) -> Result<Self, DataError> {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let file = Mapped::open(path.as_ref())?;
            let width = check_header(&file)?;
            check_tokens(&file, width, vocab_size)?;
            files.push(file);
        }
        let files = Joined::new(files, count);
        Ok(Self { range: 0..files.len(), files, part: "", text: None })
    }

    /// Tokens of the shard at `path` by its header, which fits the file's length; the tokens are not read.
    pub(crate) fn count_in(path: &Path) -> Result<u64, DataError> {
        let file = Mapped::open(path)?;
        check_header(&file).map(|_| count(&file) as u64)
    }

    pub(crate) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Tokens of each file.
    pub(crate) fn lens(&self) -> impl Iterator<Item = u64> {
        self.files.lens()
    }

    pub(crate) fn describe(&self) -> String {
        let name = self.text.as_ref().map_or_else(|| self.files.describe(), |text| text.to_string());
        format!("{}{name}", self.part)
    }

    /// The same, known by the name of the text that they were prepared from.
    pub(crate) fn of_text(self, text: &str) -> Self {
        Self { text: Some(text.into()), ..self }
    }

    /// Splits the tokens into the first floor(0.9 n) of n for training and the rest for validation, as
    /// [`crate::Text`] is split; none where the first part would be empty.
    pub(crate) fn split(self) -> Option<(Self, Self)> {
        let n = self.len();
        let middle = self.range.start + (u128::from(n) * 9 / 10) as u64;
        let (train, valid) = (self.range.start..middle, middle..self.range.end);
        let held_out = Self { range: valid, part: "the held-out tenth of ", ..self.clone() };
        (n > 1).then(|| (Self { range: train, part: "the first nine tenths of ", ..self }, held_out))
    }

    /// Reads the tokens from `start` on, which end before [`Shards::len`].
    pub(crate) fn read(&self, start: u64, out: &mut [u32]) {
        self.files.read(self.range.start + start, out, |file, first, out| {
            let body = &file.bytes()[HEADER_BYTES..];
            match width(file) {
                Some(Width::Four) => {
                    for (token, id) in out.iter_mut().zip(&body.as_chunks().0[first..]) {
                        *token = u32::from_le_bytes(*id);
                    }
                }
                _ => {
                    for (token, id) in out.iter_mut().zip(&body.as_chunks().0[first..]) {
                        *token = u32::from(u16::from_le_bytes(*id));
                    }
                }
            }
        });
    }
}

/// The first three fields of a header; zeros where the file is shorter.
fn fields(file: &Mapped) -> [i32; 3] {
    let (fields, _) = file.bytes().as_chunks::<4>();
    [0, 1, 2].map(|i| fields.get(i).map_or(0, |field| i32::from_le_bytes(*field)))
}

fn width(file: &Mapped) -> Option<Width> {
    Width::ALL.into_iter().find(|width| width.magic() == fields(file)[0])
}

/// Tokens of a shard whose header has been checked.
fn count(file: &Mapped) -> usize {
    fields(file)[2] as usize
}

fn check_header(file: &Mapped) -> Result<Width, DataError> {
    let path = || file.path.clone();
    let Some((_, body)) = file.bytes().split_at_checked(HEADER_BYTES) else {
        let got = file.bytes().len();
        return Err(DataError::ShardHeader { path: path(), expected: HEADER_BYTES, got });
    };
    let [magic, version, count] = fields(file);
    let Some(width) = width(file) else {
        return Err(DataError::ShardField { path: path(), field: "magic", expected: Width::Two.magic(), got: magic });
    };
    if version != width.version() {
        let expected = width.version();
        return Err(DataError::ShardField { path: path(), field: "version", expected, got: version });
    }
    if i64::from(count) * width.bytes() as i64 != body.len() as i64 {
        return Err(DataError::ShardCount { path: path(), tokens: count, width: width.bytes(), bytes: body.len() });
    }
    if count == 0 {
        return Err(DataError::Empty { path: path() });
    }
    Ok(width)
}

fn check_tokens(file: &Mapped, width: Width, vocab_size: usize) -> Result<(), DataError> {
    let body = &file.bytes()[HEADER_BYTES..];
    let beyond = |id: u32| id as usize >= vocab_size;
    let found = match width {
        Width::Two => {
            let id = |id: &[u8; 2]| u32::from(u16::from_le_bytes(*id));
            let ids = body.as_chunks().0;
            ids.iter().position(|bytes| beyond(id(bytes))).map(|at| (at, id(&ids[at])))
        }
        Width::Four => {
            let id = |id: &[u8; 4]| u32::from_le_bytes(*id);
            let ids = body.as_chunks().0;
            ids.iter().position(|bytes| beyond(id(bytes))).map(|at| (at, id(&ids[at])))
        }
    };
    match found {
        None => Ok(()),
        Some((position, id)) => {
            let location = file.path.display().to_string();
            Err(DataError::TokenOutOfRange { location, position: position as u64, id, vocab_size })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    /// The bytes of a shard, written from the format's description.
    fn shard(magic: i32, version: i32, count: i32, tokens: &[u16]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in [magic, version, count].into_iter().chain([0; 253]) {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        bytes
    }

    fn open(contents: &[Vec<u8>], vocab_size: usize) -> Result<Shards, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..contents.len()).map(|i| folder.path().join(format!("{i}.bin"))).collect();
        paths.iter().zip(contents).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        Shards::open(&paths, vocab_size)
    }

    #[test]
    fn shards_follow_one_another() {
        let tokens: Vec<u16> = (0..50).map(|i| i * 1310).collect();
        let contents = [0..7, 7..8, 8..50].map(|part| {
            let part = &tokens[part];
            shard(20240520, 1, part.len() as i32, part)
        });
        let shards = open(&contents, 65536).unwrap();
        assert_eq!(shards.len(), 50);
        for (start, end) in [(0, 50), (6, 9), (7, 8), (8, 50), (3, 7), (49, 50)] {
            let mut out = vec![0; end - start];
            shards.read(start as u64, &mut out);
            let expected: Vec<u32> = tokens[start..end].iter().map(|token| u32::from(*token)).collect();
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn faults_of_the_header_and_of_the_length_are_told_apart() {
        let good = shard(20240520, 1, 3, &[1, 2, 3]);
        assert!(open(std::slice::from_ref(&good), 4).is_ok());
        let fault = |bytes: Vec<u8>| open(&[good.clone(), bytes], 4).unwrap_err();
        assert!(matches!(fault(good[..1023].into()), DataError::ShardHeader { got: 1023, .. }));
        assert!(matches!(
            fault(shard(20240521, 1, 3, &[1, 2, 3])),
            DataError::ShardField { field: "magic", expected: 20240520, got: 20240521, .. }
        ));
        assert!(matches!(
            fault(shard(20240520, 2, 3, &[1, 2, 3])),
            DataError::ShardField { field: "version", expected: 1, got: 2, .. }
        ));
        let mut odd = good.clone();
        odd.push(0);
        for (bytes, tokens, got) in [
            (good[..good.len() - 1].to_vec(), 3, 5),
            (odd, 3, 7),
            (shard(20240520, 1, 4, &[1, 2, 3]), 4, 6),
            (shard(20240520, 1, 2, &[1, 2, 3]), 2, 6),
            (shard(20240520, 1, -3, &[1, 2, 3]), -3, 6),
            (shard(20240520, 1, i32::MAX, &[]), i32::MAX, 0),
        ] {
            assert!(matches!(
                fault(bytes),
                DataError::ShardCount { path, tokens: t, bytes: b, .. } if t == tokens && b == got && path.ends_with("1.bin")
            ));
        }
        assert!(matches!(fault(shard(20240520, 1, 0, &[])), DataError::Empty { .. }));
        assert!(matches!(fault(Vec::new()), DataError::Empty { .. }));
    }

    #[test]
    fn a_token_beyond_the_vocabulary_is_named() {
        let contents = [shard(20240520, 1, 3, &[1, 2, 3]), shard(20240520, 1, 3, &[0, 9, 300])];
        assert!(open(&contents, 301).is_ok());
        let fault = open(&contents, 300).unwrap_err();
        assert!(
            matches!(&fault, DataError::TokenOutOfRange { location, position: 2, id: 300, vocab_size: 300 }
                if location.ends_with("1.bin")),
            "{fault}"
        );
    }
}
