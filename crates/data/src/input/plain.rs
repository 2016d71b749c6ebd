//! A file that is one document.

use std::io::{ErrorKind, Read};
use std::path::Path;

use super::pieces::{Piece, seam};
use super::{Fault, Item, Take, cut_off};

/// Reads a document in pieces of `bytes` bytes. Bytes that are not UTF-8 become U+FFFD, a fault for each run of them.
pub(super) fn read(source: &mut dyn Read, path: &Path, bytes: usize, take: Take) {
    let mut buffer = Vec::new();
    // Offset of the buffer in the document.
    let mut start = 0;
    loop {
        let ended = fill(source, &mut buffer, bytes);
        let whole = !matches!(ended, Ok(false));
        let end = if whole { buffer.len() } else { seam(&buffer) };
        let rest = buffer.split_off(end);
        let any = !buffer.is_empty() || (whole && start > 0);
        if any && !take_piece(&buffer, start, path, whole, take) {
            return;
        }
        start += end as u64;
        buffer = rest;
        match ended {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) => {
                take(cut_off(path, &error, start));
                return;
            }
        }
    }
}

/// Reads until the buffer has `bytes` bytes; whether the source is at its end.
fn fill(source: &mut dyn Read, buffer: &mut Vec<u8>, bytes: usize) -> std::io::Result<bool> {
    while buffer.len() < bytes {
        let before = buffer.len();
        buffer.resize(bytes, 0);
        let count = source.read(&mut buffer[before..]);
        buffer.truncate(before + count.as_ref().map_or(0, |count| *count));
        match count {
            Ok(0) => return Ok(true),
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
    Ok(false)
}

fn take_piece(bytes: &[u8], start: u64, path: &Path, last: bool, take: Take) -> bool {
    let mut text = String::with_capacity(bytes.len());
    let mut offset = start;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        offset += chunk.valid().len() as u64;
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            let what = format!("expected UTF-8, got byte {:#04x}", chunk.invalid()[0]);
            if !take(Item::Fault(Fault::at_byte(path, offset, what, "replaced by U+FFFD"))) {
                return false;
            }
            offset += chunk.invalid().len() as u64;
        }
    }
    take(Item::Piece(Piece { text, first: start == 0, last }))
}
