//! Token shards in the format of llm.c's GPT-2 data: a header of 256 little-endian i32 (magic, version, count of tokens,
//! zeros), then `count` little-endian u16.

use crate::DataError;
use crate::mapped::{Joined, Mapped};
use std::path::Path;

const MAGIC: i32 = 20_240_520;
const VERSION: i32 = 1;
const HEADER_BYTES: usize = 256 * 4;

/// Token shards that follow one another. Every token is below the vocabulary size they were opened with.
#[derive(Debug, Clone)]
pub struct Shards {
    files: Joined,
}

impl Shards {
    /// Opens shards as one corpus, in the given order, and checks headers, lengths and every token.
    pub(crate) fn open<P: AsRef<Path>>(paths: &[P], vocab_size: usize) -> Result<Self, DataError> {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let file = Mapped::open(path.as_ref())?;
            check_header(&file)?;
            check_tokens(&file, vocab_size)?;
            files.push(file);
        }
        Ok(Self { files: Joined::new(files, |file| tokens(file).len()) })
    }

    pub(crate) fn len(&self) -> u64 {
        self.files.len()
    }

    pub(crate) fn describe(&self) -> String {
        self.files.describe()
    }

    /// Reads the tokens from `start` on, which end before [`Shards::len`].
    pub(crate) fn read(&self, start: u64, out: &mut [u32]) {
        self.files.read(start, out, |file, first, out| {
            for (token, pair) in out.iter_mut().zip(&tokens(file)[first..]) {
                *token = u32::from(u16::from_le_bytes(*pair));
            }
        });
    }
}

/// The tokens of a shard whose header has been checked.
fn tokens(file: &Mapped) -> &[[u8; 2]] {
    file.bytes()[HEADER_BYTES..].as_chunks().0
}

fn check_header(file: &Mapped) -> Result<(), DataError> {
    let path = || file.path.clone();
    let Some((header, body)) = file.bytes().split_at_checked(HEADER_BYTES) else {
        let got = file.bytes().len();
        return Err(DataError::ShardHeader { path: path(), expected: HEADER_BYTES, got });
    };
    let (fields, _) = header.as_chunks::<4>();
    let [magic, version, count] = [0, 1, 2].map(|i| i32::from_le_bytes(fields[i]));
    for (field, expected, got) in [("magic", MAGIC, magic), ("version", VERSION, version)] {
        if got != expected {
            return Err(DataError::ShardField { path: path(), field, expected, got });
        }
    }
    if i64::from(count) * 2 != body.len() as i64 {
        return Err(DataError::ShardCount { path: path(), tokens: count, bytes: body.len() });
    }
    if count == 0 {
        return Err(DataError::Empty { path: path() });
    }
    Ok(())
}

fn check_tokens(file: &Mapped, vocab_size: usize) -> Result<(), DataError> {
    let id = |pair: &[u8; 2]| u16::from_le_bytes(*pair);
    let out_of_range = |pair: &[u8; 2]| usize::from(id(pair)) >= vocab_size;
    match tokens(file).iter().position(out_of_range) {
        None => Ok(()),
        Some(position) => Err(DataError::TokenOutOfRange {
            location: file.path.display().to_string(),
            position: position as u64,
            id: u32::from(id(&tokens(file)[position])),
            vocab_size,
        }),
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
                DataError::ShardCount { path, tokens: t, bytes: b } if t == tokens && b == got && path.ends_with("1.bin")
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
