//! Evenkeel's data: tokenizers, story corpus, text files, token shards, deterministic batches.
//!
//! [`open`] turns file names into a [`Corpus`] to train on and one to validate with; [`Batches`] and [`Windows`] read
//! them: what they read is a pure function of the arguments, without state, clock or threads. Text that is not tokens
//! yet is made so by [`prepare`], on all cores, once.

mod batches;
mod by_token;
mod cache;
mod corpus;
mod error;
mod fingerprint;
mod guarded;
mod input;
mod mapped;
mod open;
mod permutation;
mod prepare;
mod prepared;
mod shards;
mod source;
mod stories;
mod text;
mod tokenizer;
mod windows;

pub use batches::{Batches, Order, Wrapped};
pub use by_token::by_token;
pub use corpus::Corpus;
pub use error::DataError;
pub use input::{Fault, Faults, TEXT_FIELD};
pub use open::{Data, Sources, TokenizerChoice, open, open_whole};
pub use prepare::{DataEvent, DataWatch, PrepareOptions, SHARD_TOKENS, prepare};
pub use prepared::{INDEX_FILE, Index, ShardEntry};
pub use shards::Shards;
pub use source::Source;
pub use stories::Stories;
pub use text::Text;
pub use tokenizer::{
    Decoder, SMALLEST_BPE, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer, bpe_of, cached_bpe, train_bpe,
};
pub use windows::Windows;
