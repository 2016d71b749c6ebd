//! What text is read from: files, or the stories that the program writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::fingerprint::Fingerprint;
use crate::input::{self, InputFile, Inputs, Item, Piece, Take};
use crate::{DataError, Stories};

/// Chunks of stories in a part.
const CHUNKS: u64 = 64;

/// Texts in a fixed order, in parts that are read one by one.
#[derive(Debug)]
pub struct Source {
    texts: Texts,
    field: String,
}

#[derive(Debug)]
enum Texts {
    Files(Vec<InputFile>),
    Stories(Stories),
}

impl Source {
    /// The files that paths, folders and patterns stand for. JSON Lines and Parquet have their texts in `field`.
    ///
    /// # Errors
    /// Paths without files, and token shards.
    pub fn files(paths: &[PathBuf], field: &str) -> Result<Self, DataError> {
        match input::find(paths)? {
            Inputs::Texts(files) => Ok(Self::of(files, field)),
            Inputs::Shards(paths) => Err(DataError::NotText { path: paths[0].clone(), what: "a token shard" }),
            Inputs::Prepared(folder) => Err(DataError::NotText { path: folder, what: "prepared data" }),
        }
    }

    pub(crate) fn of(files: Vec<InputFile>, field: &str) -> Self {
        Self { texts: Texts::Files(files), field: field.into() }
    }

    pub(crate) fn stories(stories: Stories) -> Self {
        Self { texts: Texts::Stories(stories), field: String::new() }
    }

    /// In a few words.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.texts {
            Texts::Stories(_) => "the stories".into(),
            Texts::Files(files) => match &files[..] {
                [file, rest @ ..] if !rest.is_empty() => format!("{} and {} more", file.path.display(), rest.len()),
                files => files.iter().map(|file| file.path.display().to_string()).collect(),
            },
        }
    }

    /// Bytes to read, packed where the files are.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.texts {
            Texts::Files(files) => files.iter().map(|file| file.bytes).sum(),
            Texts::Stories(stories) => stories.len(),
        }
    }

    pub(crate) fn parts(&self) -> usize {
        match &self.texts {
            Texts::Files(files) => files.len(),
            Texts::Stories(stories) => stories.chunks().div_ceil(CHUNKS) as usize,
        }
    }

    /// Bytes of the parts before `part`.
    pub(crate) fn bytes_before(&self, part: usize) -> u64 {
        match &self.texts {
            Texts::Files(files) => files[..part.min(files.len())].iter().map(|file| file.bytes).sum(),
            Texts::Stories(stories) => (part as u64 * stories.bytes_of(CHUNKS)).min(stories.len()),
        }
    }

    /// Reads a part to its end or until `take` has enough.
    ///
    /// # Errors
    /// A file that cannot be opened, or has no texts at all.
    pub(crate) fn read(&self, part: usize, read: &Arc<AtomicU64>, take: Take) -> Result<(), DataError> {
        match &self.texts {
            Texts::Files(files) => input::read(&files[part], &self.field, read, take),
            Texts::Stories(stories) => {
                let first = part as u64 * CHUNKS;
                for chunk in first..(first + CHUNKS).min(stories.chunks()) {
                    let text = stories.chunk(chunk);
                    read.fetch_add(text.len() as u64, Ordering::Relaxed);
                    let mut told = text.split("\n\n").filter(|story| !story.is_empty());
                    if !told.all(|story| take(Item::Piece(Piece::whole(story.into())))) {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    /// A hash of everything that is read.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint, DataError> {
        let mut all = Fingerprint::new("texts");
        all.bytes(self.field.as_bytes());
        match &self.texts {
            Texts::Stories(stories) => {
                all.bytes(b"stories, version 1");
                all.number(stories.first_chunk());
                all.number(stories.chunks());
            }
            Texts::Files(files) => {
                let each = |file: &InputFile| {
                    // The name's end decides how the bytes are read.
                    let kind = format!("{:?} {:?}", file.format, file.packing);
                    Fingerprint::of_file(&file.path).map(|contents| format!("{kind} {}", contents.hex()))
                };
                let hashes: Vec<String> = files.par_iter().map(each).collect::<Result<_, _>>()?;
                hashes.iter().for_each(|hash| all.bytes(hash.as_bytes()));
            }
        }
        Ok(all)
    }

    /// Texts of `bytes` bytes in all, spread evenly over the parts: to train a tokenizer on.
    ///
    /// # Errors
    /// As [`Source::read`], and no text at all.
    pub(crate) fn sample(&self, bytes: usize, mut progress: impl FnMut(u64) -> bool) -> Result<Vec<String>, DataError> {
        let (mut texts, mut taken) = (Vec::new(), 0);
        let (mut first, mut count) = (None, 0);
        let read = Arc::new(AtomicU64::new(0));
        for part in 0..self.parts() {
            let end = taken + (bytes - taken).div_ceil(self.parts() - part);
            let mut stopped = false;
            self.read(part, &read, &mut |item| {
                match item {
                    Item::Piece(mut piece) => {
                        let room = piece.text.floor_char_boundary(end - taken);
                        piece.text.truncate(room);
                        taken += piece.text.len();
                        texts.push(piece.text);
                        stopped = !progress(taken as u64);
                    }
                    Item::Fault(fault) => {
                        count += 1;
                        first.get_or_insert(fault);
                    }
                }
                taken + 3 < end && !stopped
            })?;
            if stopped {
                return Err(DataError::Stopped);
            }
        }
        if texts.is_empty() {
            return Err(DataError::no_text(self.describe(), first.as_ref(), count));
        }
        Ok(texts)
    }
}
