//! Ids to text as they come.

use super::Tokenizer;

/// Ids that wait at most for more of a character; a character has at most four bytes.
const MOST_PENDING: usize = 8;

/// Turns ids that come one by one into text, in whole characters: together the pieces are what
/// [`Tokenizer::decode`] makes of all ids at once.
#[derive(Debug)]
pub struct Decoder {
    tokenizer: Tokenizer,
    /// Bytes of a character that is not complete.
    bytes: Vec<u8>,
    /// Ids whose text is out and on which the next text depends (some decoders strip a space at the start).
    context: Vec<u32>,
    /// Ids whose text is not out.
    pending: Vec<u32>,
}

impl Decoder {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer, bytes: Vec::new(), context: Vec::new(), pending: Vec::new() }
    }

    /// The text that id `id` completes, often none.
    pub fn push(&mut self, id: u32) -> String {
        if let Some(bytes) = self.tokenizer.bytes_of(id) {
            self.bytes.extend_from_slice(&bytes);
            return take_characters(&mut self.bytes);
        }
        self.pending.push(id);
        let text = self.pending_text();
        if text.ends_with(char::REPLACEMENT_CHARACTER) && self.pending.len() < MOST_PENDING {
            return String::new();
        }
        if !text.is_empty() {
            self.context = std::mem::take(&mut self.pending);
        }
        text
    }

    /// What is left at the end: U+FFFD for a character that is not complete.
    #[must_use]
    pub fn finish(self) -> String {
        if self.pending.is_empty() { String::from_utf8_lossy(&self.bytes).into_owned() } else { self.pending_text() }
    }

    fn pending_text(&self) -> String {
        let before = self.tokenizer.decode(&self.context);
        let all = self.tokenizer.decode(&[&self.context[..], &self.pending].concat());
        all.strip_prefix(&before).map_or_else(|| self.tokenizer.decode(&self.pending), str::to_owned)
    }
}

/// Removes the complete characters at the start of `bytes` and gives them as text. What cannot become a character is
/// U+FFFD, in the same places as by [`String::from_utf8_lossy`] of everything.
fn take_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut done = 0;
    loop {
        match std::str::from_utf8(&bytes[done..]) {
            Ok(rest) => {
                text.push_str(rest);
                done = bytes.len();
                break;
            }
            Err(error) => {
                let valid = done + error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&bytes[done..valid]));
                done = valid;
                let Some(invalid) = error.error_len() else { break };
                text.push(char::REPLACEMENT_CHARACTER);
                done += invalid;
            }
        }
    }
    bytes.drain(..done);
    text
}
