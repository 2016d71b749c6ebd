//! Windows for evaluation: every target of a corpus once, in order.

use crate::batches::{at_least_one, has_length, read_pair};
use crate::{Corpus, DataError, Tokenizer};

/// The windows x = [i T, i T + T), y = [i T + 1, i T + T] of a corpus. They do not overlap, and the last, short one
/// is left out.
#[derive(Debug, Clone)]
pub struct Windows {
    corpus: Corpus,
    /// T, the tokens of a window.
    time: usize,
}

impl Windows {
    /// Windows of `time` (T) tokens.
    ///
    /// # Errors
    /// T of zero, and a corpus of fewer than T + 1 tokens.
    pub fn new(corpus: Corpus, time: usize) -> Result<Self, DataError> {
        at_least_one("seq_len", time as u64)?;
        let expected = (time as u64).saturating_add(1);
        if corpus.len() < expected {
            return Err(DataError::TooShort {
                corpus: corpus.describe(),
                purpose: format!("one window of evaluation (seq_len {time} + 1)"),
                expected,
                got: corpus.len(),
                remedy: "a smaller seq_len",
            });
        }
        Ok(Self { corpus, time })
    }

    /// T, the tokens of a window.
    pub fn seq_len(&self) -> usize {
        self.time
    }

    /// Number of windows, at least one: floor((n - 1) / T) for n tokens.
    pub fn count(&self) -> u64 {
        (self.corpus.len() - 1) / self.time as u64
    }

    /// Bytes of text that the targets of the windows `chosen` stand for.
    ///
    /// # Errors
    /// An index not below [`Windows::count`].
    pub fn target_bytes(&self, chosen: &[u64], tokenizer: &Tokenizer) -> Result<u64, DataError> {
        let (mut tokens, mut targets) = (vec![0; self.time], vec![0; self.time]);
        let mut bytes = 0;
        for &index in chosen {
            self.fill(index, &mut tokens, &mut targets)?;
            bytes += targets.iter().map(|id| tokenizer.byte_len(*id) as u64).sum::<u64>();
        }
        Ok(bytes)
    }

    /// Fills window `index`, from 0: T tokens and T targets.
    ///
    /// # Errors
    /// Slices of another length than T, and an index not below [`Windows::count`].
    pub fn fill(&self, index: u64, tokens: &mut [u32], targets: &mut [u32]) -> Result<(), DataError> {
        has_length("tokens", tokens, self.time)?;
        has_length("targets", targets, self.time)?;
        if index >= self.count() {
            let expected = format!("below the {} windows", self.count());
            return Err(DataError::Argument { name: "window", expected, got: index });
        }
        read_pair(&self.corpus, index * self.time as u64, tokens, targets);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn corpus(len: u8) -> Corpus {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.txt");
        fs::write(&path, (0..len).collect::<Vec<u8>>()).unwrap();
        Corpus::open(&[path], 256).unwrap()
    }

    #[test]
    fn windows_take_every_target_once_but_for_a_short_rest() {
        for (len, time) in [(13u8, 4usize), (12, 4), (14, 4), (2, 1), (7, 6), (100, 7)] {
            let windows = Windows::new(corpus(len), time).unwrap();
            let mut next = 0;
            for index in 0..windows.count() {
                let (mut x, mut y) = (vec![0; time], vec![0; time]);
                windows.fill(index, &mut x, &mut y).unwrap();
                for (token, target) in x.into_iter().zip(y) {
                    assert_eq!((token, target), (next, next + 1));
                    next += 1;
                }
            }
            let rest = usize::from(len) - 1 - next as usize;
            assert!(rest < time, "{len} {time}");
        }
    }

    #[test]
    fn impossible_arguments_are_named() {
        assert!(matches!(Windows::new(corpus(5), 0), Err(DataError::Argument { name: "seq_len", .. })));
        assert!(matches!(Windows::new(corpus(5), 5), Err(DataError::TooShort { expected: 6, got: 5, .. })));
        let windows = Windows::new(corpus(6), 5).unwrap();
        assert_eq!(windows.count(), 1);
        let fault = |index, x, y| match windows.fill(index, &mut vec![0; x], &mut vec![0; y]) {
            Err(DataError::Argument { name, .. }) => name,
            _ => "",
        };
        assert_eq!(fault(0, 5, 5), "");
        assert_eq!(fault(1, 5, 5), "window");
        assert_eq!(fault(0, 4, 5), "tokens");
        assert_eq!(fault(0, 5, 6), "targets");
    }
}
