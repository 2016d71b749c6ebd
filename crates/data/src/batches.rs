//! Batches for training, in an order that is a pure function of (seed, step, micro-batch).
//!
//! Micro-batches are numbered without a gap: micro-batch m of step s is block k = s * accumulation + m. Everything
//! follows from k, so that a reader among `world` others will only have to number its blocks k * world + rank.

use crate::permutation::permute;
use crate::{Corpus, DataError};
use std::fmt;
use std::str::FromStr;

/// The order of the training data; written as `shuffled` or `sequential`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Windows of T targets in a seeded order, another one on every pass over the corpus. The windows are those of
    /// [`crate::Windows`]; each comes once in a pass.
    Shuffled,
    /// Block k is the tokens [k B T, (k + 1) B T] inclusive, as B rows; the corpus repeats itself at its end.
    Sequential,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shuffled => "shuffled",
            Self::Sequential => "sequential",
        })
    }
}

impl FromStr for Order {
    type Err = DataError;

    fn from_str(word: &str) -> Result<Self, DataError> {
        match word {
            "shuffled" => Ok(Self::Shuffled),
            "sequential" => Ok(Self::Sequential),
            _ => Err(DataError::Word { name: "order", expected: "shuffled or sequential", got: word.into() }),
        }
    }
}

/// Whether the data began again within a batch: true for exactly one batch per pass over the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrapped(pub bool);

/// Training batches of B rows of T tokens from a corpus.
#[derive(Debug, Clone)]
pub struct Batches {
    corpus: Corpus,
    order: Order,
    seed: u64,
    /// B, the rows of a micro-batch.
    rows: usize,
    /// T, the tokens of a row.
    time: usize,
    /// Micro-batches of a step.
    accumulation: u32,
}

impl Batches {
    /// Batches of `rows` (B) by `time` (T) tokens, `accumulation` of them per step. The seed matters to
    /// [`Order::Shuffled`] only.
    ///
    /// # Errors
    /// A size of zero, and a corpus of fewer than B * T + 1 tokens.
    pub fn new(
        corpus: Corpus,
        order: Order,
        seed: u64,
        rows: usize,
        time: usize,
        accumulation: u32,
    ) -> Result<Self, DataError> {
        at_least_one("batch_size", rows as u64)?;
        at_least_one("seq_len", time as u64)?;
        at_least_one("grad_accumulation", u64::from(accumulation))?;
        let expected = (rows as u64).saturating_mul(time as u64).saturating_add(1);
        if corpus.len() < expected {
            return Err(DataError::TooShort {
                corpus: corpus.describe(),
                purpose: format!("one batch (batch_size {rows} x seq_len {time} + 1)"),
                expected,
                got: corpus.len(),
                remedy: "a smaller batch_size or seq_len",
            });
        }
        Ok(Self { corpus, order, seed, rows, time, accumulation })
    }

    /// The corpus of the batches.
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    /// Fills micro-batch `micro` of step `step`, both from 0: `tokens` and `targets` are (B, T), row by row, and a
    /// target is the token behind its token.
    ///
    /// Reports [`Wrapped`] where the batch contains the first token or window of a second or later pass.
    ///
    /// # Errors
    /// Slices of another length than B * T, and a micro-batch that the step does not have.
    pub fn fill(&self, step: u64, micro: u32, tokens: &mut [u32], targets: &mut [u32]) -> Result<Wrapped, DataError> {
        has_length("tokens", tokens, self.rows * self.time)?;
        has_length("targets", targets, self.rows * self.time)?;
        if micro >= self.accumulation {
            let expected = format!("below grad_accumulation {}", self.accumulation);
            return Err(DataError::Argument { name: "micro", expected, got: u64::from(micro) });
        }
        let block = u128::from(step) * u128::from(self.accumulation) + u128::from(micro);
        Ok(Wrapped(match self.order {
            Order::Sequential => self.fill_sequential(block, tokens, targets),
            Order::Shuffled => self.fill_shuffled(block, tokens, targets),
        }))
    }

    fn fill_sequential(&self, block: u128, tokens: &mut [u32], targets: &mut [u32]) -> bool {
        let (size, len) = (tokens.len() as u128, u128::from(self.corpus.len()));
        let (first, last) = (block * size, (block + 1) * size);
        read_pair(&self.corpus, (first % len) as u64, tokens, targets);
        first / len != last / len
    }

    fn fill_shuffled(&self, block: u128, tokens: &mut [u32], targets: &mut [u32]) -> bool {
        let count = u128::from((self.corpus.len() - 1) / self.time as u64);
        let rows = tokens.chunks_exact_mut(self.time).zip(targets.chunks_exact_mut(self.time));
        let mut wrapped = false;
        for (row, (tokens, targets)) in rows.enumerate() {
            let index = block * self.rows as u128 + row as u128;
            let (epoch, within) = ((index / count) as u64, (index % count) as u64);
            let window = permute(self.seed, epoch, within, count as u64);
            read_pair(&self.corpus, window * self.time as u64, tokens, targets);
            wrapped |= epoch > 0 && within == 0;
        }
        wrapped
    }
}

/// Reads tokens [start, start + n) and the targets behind each, n being the length of both.
pub(crate) fn read_pair(corpus: &Corpus, start: u64, tokens: &mut [u32], targets: &mut [u32]) {
    let mut span = vec![0; tokens.len() + 1];
    corpus.read(start, &mut span);
    tokens.copy_from_slice(&span[..tokens.len()]);
    targets.copy_from_slice(&span[1..]);
}

pub(crate) fn at_least_one(name: &'static str, got: u64) -> Result<(), DataError> {
    match got {
        0 => Err(DataError::Argument { name, expected: "at least 1".into(), got }),
        _ => Ok(()),
    }
}

pub(crate) fn has_length(name: &'static str, slice: &[u32], expected: usize) -> Result<(), DataError> {
    if slice.len() != expected {
        let expected = format!("{expected} elements");
        return Err(DataError::Argument { name, expected, got: slice.len() as u64 });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Stories;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::fs;

    /// A text whose first 251 tokens are all different.
    fn corpus(len: usize) -> (Vec<u32>, Corpus) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.txt");
        let bytes: Vec<u8> = (0..len).map(|p| (p % 251) as u8 ^ (p / 251) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        let tokens = bytes.iter().map(|byte| u32::from(*byte)).collect();
        (tokens, Corpus::open(&[path], 256).unwrap())
    }

    fn fill(batches: &Batches, step: u64, micro: u32) -> (Vec<u32>, Vec<u32>, bool) {
        let size = batches.rows * batches.time;
        let (mut x, mut y) = (vec![0; size], vec![0; size]);
        let Wrapped(wrapped) = batches.fill(step, micro, &mut x, &mut y).unwrap();
        (x, y, wrapped)
    }

    proptest! {
        /// Against a reader that walks through the corpus token by token.
        #[test]
        fn sequential_batches_walk_through_the_corpus(
            extra in 0usize..60, rows in 1usize..5, time in 1usize..9, accumulation in 1u32..4,
        ) {
            let (data, corpus) = corpus(rows * time + 1 + extra);
            let batches = Batches::new(corpus, Order::Sequential, 0, rows, time, accumulation).unwrap();
            let (mut position, mut passes, mut reported) = (0, 0, 0);
            for step in 0..20 {
                for micro in 0..accumulation {
                    let (x, y, wrapped) = fill(&batches, step, micro);
                    for (token, target) in x.iter().zip(&y) {
                        prop_assert_eq!(*token, data[position]);
                        position += 1;
                        if position == data.len() {
                            (position, passes) = (0, passes + 1);
                        }
                        prop_assert_eq!(*target, data[position]);
                    }
                    reported += usize::from(wrapped);
                    prop_assert_eq!(reported, passes);
                }
            }
        }

        /// Against a list of all windows, struck off one by one.
        #[test]
        fn shuffled_batches_take_every_window_once_per_pass(
            seed: u64, extra in 0usize..60, rows in 1usize..5, time in 2usize..9, accumulation in 1u32..4,
        ) {
            let (data, corpus) = corpus(rows * time + 1 + extra);
            let windows: Vec<&[u32]> =
                (0..).map(|i| i * time).take_while(|i| i + time < data.len()).map(|i| &data[i..=i + time]).collect();
            let batches = Batches::new(corpus, Order::Shuffled, seed, rows, time, accumulation).unwrap();
            let mut left: HashSet<&[u32]> = HashSet::new();
            let mut first = true;
            for step in 0..10 {
                for micro in 0..accumulation {
                    let (x, y, wrapped) = fill(&batches, step, micro);
                    let mut began = false;
                    for (x, y) in x.chunks(time).zip(y.chunks(time)) {
                        if left.is_empty() {
                            left = windows.iter().copied().collect();
                            prop_assert_eq!(left.len(), windows.len());
                            began |= !std::mem::take(&mut first);
                        }
                        let window: Vec<u32> = x[..1].iter().chain(y).copied().collect();
                        prop_assert_eq!(&x[1..], &y[..time - 1]);
                        prop_assert!(left.remove(window.as_slice()));
                    }
                    prop_assert_eq!(wrapped, began);
                }
            }
        }
    }

    #[test]
    fn the_order_depends_on_seed_and_pass_and_on_nothing_else() {
        let (_, corpus) = corpus(1001);
        let batches = |seed| Batches::new(corpus.clone(), Order::Shuffled, seed, 5, 10, 2).unwrap();
        // Ten steps of 2 x 5 windows are one pass over the 100 windows.
        let pass = |seed, number: u64| -> Vec<_> {
            (10 * number..10 * (number + 1)).map(|step| fill(&batches(seed), step, 1).0).collect()
        };
        assert_eq!(pass(1, 0), pass(1, 0));
        assert_ne!(pass(1, 0), pass(2, 0));
        assert_ne!(pass(1, 0), pass(1, 1));
        let batches = batches(1);
        let backwards: Vec<_> = (0..10).rev().map(|step| fill(&batches, step, 1).0).collect();
        assert!(backwards.iter().rev().eq(pass(1, 0).iter()));
    }

    #[test]
    fn the_largest_step_is_read() {
        let (_, corpus) = corpus(100);
        for order in [Order::Sequential, Order::Shuffled] {
            fill(&Batches::new(corpus.clone(), order, 0, 3, 9, u32::MAX).unwrap(), u64::MAX, 7);
        }
    }

    #[test]
    fn a_corpus_shorter_than_one_batch_is_named() {
        let (_, short) = corpus(24);
        let fault = Batches::new(short, Order::Shuffled, 0, 3, 8, 1).unwrap_err().to_string();
        assert!(
            fault.ends_with(
                "text.txt: expected at least 25 tokens for one batch (batch_size 3 x seq_len 8 + 1), got 24; \
                 use more data, or a smaller batch_size or seq_len"
            ),
            "{fault}"
        );
        assert!(Batches::new(corpus(25).1, Order::Shuffled, 0, 3, 8, 1).is_ok());
    }

    #[test]
    fn impossible_arguments_are_named() {
        let corpus = Corpus::Stories(Stories::train());
        let fault =
            |rows, time, accumulation| match Batches::new(corpus.clone(), Order::Shuffled, 0, rows, time, accumulation)
            {
                Err(DataError::Argument { name, .. }) => name,
                Err(DataError::TooShort { .. }) => "too short",
                _ => "",
            };
        assert_eq!(fault(0, 1, 1), "batch_size");
        assert_eq!(fault(1, 0, 1), "seq_len");
        assert_eq!(fault(1, 1, 0), "grad_accumulation");
        assert_eq!(fault(usize::MAX, usize::MAX, 1), "too short");
        let batches = Batches::new(corpus, Order::Shuffled, 0, 2, 3, 2).unwrap();
        let fault = |micro, x, y| match batches.fill(0, micro, &mut vec![0; x], &mut vec![0; y]) {
            Err(DataError::Argument { name, .. }) => name,
            _ => "",
        };
        assert_eq!(fault(0, 6, 6), "");
        assert_eq!(fault(2, 6, 6), "micro");
        assert_eq!(fault(0, 5, 6), "tokens");
        assert_eq!(fault(0, 6, 7), "targets");
    }

    #[test]
    fn words_and_orders_agree() {
        for (word, order) in [("shuffled", Order::Shuffled), ("sequential", Order::Sequential)] {
            assert_eq!(order.to_string(), word);
            assert_eq!(word.parse::<Order>().unwrap(), order);
        }
        let fault = "random".parse::<Order>().unwrap_err().to_string();
        assert_eq!(fault, "order: expected shuffled or sequential, got \"random\"");
    }
}
