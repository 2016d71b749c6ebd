//! Reading, tokenizing and writing at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rayon::prelude::*;

use super::folder::{Folder, Position};
use super::{DataEvent, DataWatch, MOST_SHARD_TOKENS, PrepareOptions};
use crate::input::{Fault, Item, Piece};
use crate::prepared::{Index, ShardEntry, shard_name};
use crate::shards::{ShardWriter, Width};
use crate::source::Source;
use crate::tokenizer::Encoder;
use crate::{DataError, Tokenizer};

/// Bytes of text that are tokenized at once, in pieces on all cores; three of them are in memory at most.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_ENTRIES: usize = 16384;

/// What the reading thread hands on, in order.
enum Entry {
    Piece(Piece),
    Fault(Fault),
    EndOfPart,
    Error(DataError),
}

/// Prepares everything from a position on.
pub(super) fn run(
    source: &Source,
    options: &PrepareOptions,
    folder: &Folder,
    begun: (Position, Index),
    watch: DataWatch,
) -> Result<Index, DataError> {
    let (position, index) = begun;
    let read = Arc::new(AtomicU64::new(source.bytes_before(position.part)));
    let counter = Arc::clone(&read);
    thread::scope(|scope| {
        let (send, receive) = sync_channel(1);
        scope.spawn(move || Batches { send, entries: Vec::new(), bytes: 0 }.read(source, position, &counter));
        let mut writer = Writer { source, options, folder, position, index, shard: None };
        writer.run(&receive, &read, watch)?;
        writer.finish()
    })
}

/// The reading side.
struct Batches {
    send: SyncSender<Vec<Entry>>,
    entries: Vec<Entry>,
    bytes: usize,
}

impl Batches {
    fn read(mut self, source: &Source, from: Position, read: &Arc<AtomicU64>) {
        for part in from.part..source.parts() {
            let mut skip = if part == from.part { from.pieces } else { 0 };
            let outcome = source.read(part, read, &mut |item| match item {
                // What stands before the position is in the shards.
                Item::Fault(_) if skip > 0 => true,
                Item::Piece(_) if skip > 0 => {
                    skip -= 1;
                    true
                }
                Item::Piece(piece) => {
                    self.bytes += piece.text.len();
                    self.push(Entry::Piece(piece))
                }
                Item::Fault(fault) => self.push(Entry::Fault(fault)),
            });
            if !self.push(outcome.map_or_else(Entry::Error, |()| Entry::EndOfPart)) {
                return;
            }
        }
        let _ = self.send.send(self.entries);
    }

    /// Whether anybody still listens.
    fn push(&mut self, entry: Entry) -> bool {
        self.entries.push(entry);
        if self.bytes < BATCH_BYTES && self.entries.len() < BATCH_ENTRIES {
            return true;
        }
        self.bytes = 0;
        self.send.send(std::mem::take(&mut self.entries)).is_ok()
    }
}

/// The writing side.
struct Writer<'a> {
    source: &'a Source,
    options: &'a PrepareOptions,
    folder: &'a Folder,
    position: Position,
    index: Index,
    shard: Option<ShardWriter>,
}

impl Writer<'_> {
    fn run(&mut self, receive: &Receiver<Vec<Entry>>, read: &AtomicU64, watch: DataWatch) -> Result<(), DataError> {
        let of = self.source.bytes().max(1);
        for batch in receive {
            let done = read.load(Ordering::Relaxed).min(of);
            if watch(DataEvent::Progress { action: "tokenizing", done, of }).is_break() {
                return Err(DataError::Stopped);
            }
            let tokens = encode(&batch, &self.options.tokenizer)?;
            for (entry, ids) in batch.into_iter().zip(tokens) {
                match entry {
                    Entry::Piece(piece) => self.write(&piece, &ids)?,
                    Entry::Fault(fault) => self.index.faults.add(fault, self.options.strict)?,
                    Entry::EndOfPart => self.position = Position { part: self.position.part + 1, pieces: 0 },
                    Entry::Error(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, piece: &Piece, ids: &[u32]) -> Result<(), DataError> {
        let width = Width::of(self.index.vocab_size);
        let shard = match &mut self.shard {
            Some(shard) => shard,
            None => self.shard.insert(ShardWriter::create(self.folder.partial(), width)?),
        };
        if piece.first {
            shard.add(self.index.bos.as_slice())?;
        }
        shard.add(ids)?;
        if piece.last {
            shard.add(self.index.eos.as_slice())?;
            self.index.documents += 1;
        }
        self.index.bytes += piece.text.len() as u64;
        self.position.pieces += 1;
        if shard.count() >= self.options.shard_tokens.clamp(1, MOST_SHARD_TOKENS) {
            self.finish_shard()?;
            self.folder.save(self.position, &self.index)?;
        }
        Ok(())
    }

    fn finish_shard(&mut self) -> Result<(), DataError> {
        let Some(shard) = self.shard.take() else { return Ok(()) };
        let file = shard_name(self.index.shards.len());
        let tokens = shard.count();
        if tokens == 0 {
            return Ok(());
        }
        shard.finish(&self.folder.path(&file))?;
        self.index.tokens += tokens;
        self.index.shards.push(ShardEntry { file, tokens });
        Ok(())
    }

    fn finish(mut self) -> Result<Index, DataError> {
        self.finish_shard()?;
        if self.index.tokens == 0 {
            let faults = &self.index.faults;
            return Err(DataError::no_text(self.source.describe(), faults.first.first(), faults.count));
        }
        self.folder.finish(&self.index, &self.options.tokenizer.files())?;
        Ok(self.index)
    }
}

/// The tokens of every entry, in order; of what is no piece there are none.
fn encode(batch: &[Entry], tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>, DataError> {
    let encode = |encoder: &mut Encoder, entry: &Entry| match entry {
        Entry::Piece(piece) => encoder.encode(&piece.text),
        _ => Ok(Vec::new()),
    };
    batch.par_iter().map_init(|| tokenizer.encoder(), encode).collect()
}
