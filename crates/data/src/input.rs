//! Files to read text from: which files a path, a folder or a pattern stands for, and the text in them, piece by piece.

mod fault;
mod find;
mod json_lines;
mod packed;
mod parquet;
mod pieces;
mod plain;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::DataError;
pub use fault::{Fault, Faults};
pub(crate) use find::{Format, InputFile, Inputs, find, is_shard};
pub(crate) use packed::Packing;
pub(crate) use pieces::Piece;

/// The field or column of a text where none is named.
pub const TEXT_FIELD: &str = "text";
/// Bytes of the text that is read at once.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// What comes out of a file, in its order.
#[derive(Debug)]
pub(crate) enum Item {
    /// Text.
    Piece(Piece),
    /// Something that is no text, and was left out or replaced.
    Fault(Fault),
}

/// Takes the items of a file; whether to go on.
pub(crate) type Take<'a> = &'a mut dyn FnMut(Item) -> bool;

/// Reads a file to its end or until `take` has enough. `read` counts the bytes of the file that have been read.
///
/// # Errors
/// A file that cannot be opened, and a Parquet file without the column. What is wrong with the contents is an item.
pub(crate) fn read(file: &InputFile, field: &str, read: &Arc<AtomicU64>, take: Take) -> Result<(), DataError> {
    let path = &file.path;
    let unreadable = |reason| DataError::unreadable(path, reason);
    let opened = File::open(path).map_err(unreadable)?;
    if file.format == Format::Parquet {
        let whole = packed::unpack_to_file(opened, file, read).map_err(unreadable)?;
        return parquet::read(whole, file, field, read, take);
    }
    let counted = BufReader::with_capacity(1 << 17, Counted { file: opened, read: Arc::clone(read) });
    let mut unpacked = file.packing.unpack(counted);
    match file.format {
        Format::JsonLines => json_lines::read(&mut *unpacked, path, field, take),
        _ => plain::read(&mut *unpacked, path, PIECE_BYTES, take),
    }
    Ok(())
}

/// A file that counts what is read of it.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Hands a whole document on in pieces; an empty one is none.
fn take_document(text: &str, take: Take) -> bool {
    pieces::split(text, PIECE_BYTES).all(|piece| take(Item::Piece(piece)))
}

/// A fault of reading at an offset of the unpacked text.
fn cut_off(path: &Path, packing_error: &std::io::Error, offset: u64) -> Item {
    let what = if packing_error.kind() == std::io::ErrorKind::UnexpectedEof {
        "expected more, got the end of a file that is cut".to_owned()
    } else {
        format!("expected to read on, got: {packing_error}")
    };
    Item::Fault(Fault::at_byte(path, offset, what, "what stands before was read"))
}

#[cfg(test)]
mod tests;
