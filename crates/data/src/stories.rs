//! The embedded corpus: little stories that a seeded grammar writes, without an end and without a file.
//!
//! The invariant: chunk c of the corpus is a function of c alone, whole stories that fill exactly [`CHUNK`] bytes.
//! So any position is read without what lies before it, in about the time it takes to write one chunk.

mod grammar;
mod telling;

use grammar::{ENDINGS, SHORTEST_ENDING};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::ops::{Range, RangeInclusive};
use telling::{Dice, tell};

/// Bytes of a chunk: about fourteen stories. Writing one takes tens of microseconds, so that a batch of random windows
/// needs no cache.
const CHUNK: usize = 8192;
/// Chunks for training, from chunk 0 on: 8 GiB of text.
const TRAIN_CHUNKS: u64 = 1 << 20;
/// Chunks for validation, behind those for training: 64 KiB of text.
const VALID_CHUNKS: u64 = 8;
/// The key of the ChaCha8 streams; chunk c is written from stream c.
const KEY: [u8; 32] = *b"evenkeel: the little stories, v1";

/// What separates two stories and ends the last one.
const GAP: &[u8] = b"\n\n";
/// Lengths in bytes that stories with ending and gap commonly have: from the first fifth to the last tenth.
const COMMON: RangeInclusive<usize> = 545..=625;

/// The largest token id in the stories.
pub(crate) const LARGEST_TOKEN: u32 = b'z' as u32;

/// A range of the virtual corpus of stories, as bytes.
#[derive(Debug, Clone)]
pub struct Stories {
    chunks: Range<u64>,
}

impl Stories {
    /// The stories to train on.
    pub fn train() -> Self {
        Self { chunks: 0..TRAIN_CHUNKS }
    }

    /// The stories to validate with, from other chunks than those of [`Stories::train`].
    pub fn valid() -> Self {
        Self { chunks: TRAIN_CHUNKS..TRAIN_CHUNKS + VALID_CHUNKS }
    }

    /// The first `bytes` bytes of [`Stories::train`], in whole chunks.
    pub(crate) fn first(bytes: u64) -> Self {
        Self { chunks: 0..bytes / CHUNK as u64 }
    }

    /// At most `bytes` bytes of them.
    pub(crate) fn at_most(self, bytes: u64) -> Self {
        let Range { start, end } = self.chunks;
        Self { chunks: start..end.min(start + bytes / CHUNK as u64) }
    }

    /// Number of chunks.
    pub(crate) fn chunks(&self) -> u64 {
        self.chunks.end - self.chunks.start
    }

    /// The chunk in which they begin.
    pub(crate) fn first_chunk(&self) -> u64 {
        self.chunks.start
    }

    /// Chunk `index` of these: whole stories, an empty line behind each.
    pub(crate) fn chunk(&self, index: u64) -> String {
        String::from_utf8_lossy(&write_chunk(self.chunks.start + index, CHUNK)).into_owned()
    }

    /// Bytes of `chunks` chunks.
    pub(crate) fn bytes_of(&self, chunks: u64) -> u64 {
        chunks * CHUNK as u64
    }

    /// Tokens, that is bytes, in all.
    pub(crate) fn len(&self) -> u64 {
        (self.chunks.end - self.chunks.start) * CHUNK as u64
    }

    /// Reads the tokens from `start` on, which end before [`Stories::len`].
    pub(crate) fn read(&self, start: u64, mut out: &mut [u32]) {
        let mut chunk = self.chunks.start + start / CHUNK as u64;
        let mut offset = (start % CHUNK as u64) as usize;
        while !out.is_empty() {
            let count = out.len().min(CHUNK - offset);
            let (here, rest) = out.split_at_mut(count);
            for (token, byte) in here.iter_mut().zip(&write_chunk(chunk, offset + count)[offset..]) {
                *token = u32::from(*byte);
            }
            (out, chunk, offset) = (rest, chunk + 1, 0);
        }
    }
}

/// Writes the first `count` bytes of chunk `index`, or a few more: the chunk is [`CHUNK`] bytes of whole stories.
///
/// A story that would leave room no common stories fill is thrown away and another one is told. The loop ends: room
/// for k stories of one common length is left as room for k - 1 of them by such a story, and the last one fits
/// because one or two endings take up any difference.
fn write_chunk(index: u64, count: usize) -> Vec<u8> {
    let mut rng = ChaCha8Rng::from_seed(KEY);
    rng.set_stream(index);
    let mut dice = Dice(rng);
    let mut text = Vec::with_capacity(CHUNK + 2 * COMMON.end());
    while text.len() < count {
        let start = text.len();
        tell(&mut dice, &mut text);
        let ending = *dice.pick(&ENDINGS);
        let room = CHUNK.saturating_sub(text.len() + GAP.len());
        let endings = match endings_of_length(room) {
            Some(endings) => endings,
            None if fills_with_common_stories(room.saturating_sub(1 + ending.len())) => {
                vec![ending]
            }
            None => {
                text.truncate(start);
                continue;
            }
        };
        for ending in endings {
            text.push(b' ');
            text.extend_from_slice(ending.as_bytes());
        }
        text.extend_from_slice(GAP);
    }
    text
}

/// Whether some number of stories of one [`COMMON`] length takes exactly `room` bytes.
fn fills_with_common_stories(room: usize) -> bool {
    room > 0 && room.div_ceil(*COMMON.end()) <= room / COMMON.start()
}

/// One or two endings that take exactly `room` bytes with the space before each.
fn endings_of_length(room: usize) -> Option<Vec<&'static str>> {
    let longest = SHORTEST_ENDING + ENDINGS.len() - 1;
    let ending = |length: usize| ENDINGS[length - SHORTEST_ENDING];
    if (SHORTEST_ENDING..=longest).contains(&room) {
        Some(vec![ending(room)])
    } else if (2 * SHORTEST_ENDING + 1..2 * longest).contains(&room) {
        // Two of different lengths, the shorter first: never the same sentence twice.
        let shorter = (room - 1) / 2;
        Some(vec![ending(shorter), ending(room - shorter)])
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn bytes(stories: &Stories, start: u64, count: usize) -> Vec<u8> {
        let mut tokens = vec![0; count];
        stories.read(start, &mut tokens);
        tokens.iter().map(|token| u8::try_from(*token).unwrap()).collect()
    }

    #[test]
    fn chunks_are_whole_stories_of_plain_text() {
        for chunk in (0..300).chain(TRAIN_CHUNKS..TRAIN_CHUNKS + VALID_CHUNKS) {
            let text = String::from_utf8(write_chunk(chunk, CHUNK)).unwrap();
            assert_eq!(text.len(), CHUNK);
            assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'z').contains(&b)));
            assert!(text.ends_with("\n\n"));
            for story in text.trim_end().split("\n\n") {
                assert!(story.starts_with("Once ") || story.starts_with("There was "), "{story}");
                assert!(ENDINGS.iter().any(|ending| story.ends_with(ending)), "{story}");
                assert!(!story.contains('\n') && (400..900).contains(&story.len()), "{story}");
            }
        }
    }

    #[test]
    fn a_read_does_not_depend_on_other_reads() {
        let stories = Stories::train();
        let whole = bytes(&stories, 0, 3 * CHUNK);
        assert_eq!(whole[CHUNK..2 * CHUNK], write_chunk(1, CHUNK));
        for (start, count) in [(0, 1), (CHUNK - 1, 2), (CHUNK, 5), (17, 2 * CHUNK), (2 * CHUNK - 3, 129)] {
            assert_eq!(bytes(&stories, start as u64, count), whole[start..start + count]);
        }
        let last = bytes(&stories, stories.len() - 10, 10);
        assert_eq!(last, write_chunk(TRAIN_CHUNKS - 1, CHUNK)[CHUNK - 10..]);
    }

    #[test]
    fn validation_stories_are_not_among_those_for_training() {
        let stories = |chunk| {
            let text = String::from_utf8(write_chunk(chunk, CHUNK)).unwrap();
            text.trim_end().split("\n\n").map(String::from).collect::<Vec<_>>()
        };
        let (train, valid) = (Stories::train(), Stories::valid());
        assert!(train.chunks.end <= valid.chunks.start);
        let trained: HashSet<String> = (0..300).flat_map(stories).collect();
        assert!(valid.chunks.flat_map(stories).all(|story| !trained.contains(&story)));
    }

    #[test]
    fn endings_take_exactly_the_room_they_are_asked_for() {
        for room in 0..100 {
            let endings = endings_of_length(room);
            assert_eq!(endings.is_some(), (14..=27).contains(&room) || (29..=53).contains(&room));
            if let Some(endings) = endings {
                assert_eq!(endings.iter().map(|ending| 1 + ending.len()).sum::<usize>(), room);
                assert!(endings.len() == 1 || endings[0] != endings[1]);
            }
        }
    }

    #[test]
    fn room_is_measured_in_common_stories() {
        for room in 0..5000 {
            let filled = (1..10).any(|k| COMMON.start() * k <= room && room <= COMMON.end() * k);
            assert_eq!(fills_with_common_stories(room), filled, "{room}");
        }
    }
}
