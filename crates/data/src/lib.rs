//! Evenkeel's data: story corpus, text files, token shards, deterministic batches.
//!
//! [`open`] turns file names into a [`Corpus`] to train on and one to validate with; [`Batches`] and [`Windows`] read
//! them. What is read is a pure function of the arguments: no state, no clock, no threads.

mod batches;
mod by_token;
mod corpus;
mod error;
mod mapped;
mod permutation;
mod shards;
mod stories;
mod text;
mod tokenizer;
mod windows;

pub use batches::{Batches, Order, Wrapped};
pub use by_token::by_token;
pub use corpus::{Corpus, Sources, open};
pub use error::DataError;
pub use shards::Shards;
pub use stories::Stories;
pub use text::Text;
pub use tokenizer::{Decoder, SMALLEST_BPE, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer, train_bpe};
pub use windows::Windows;
