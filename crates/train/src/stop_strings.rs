//! Stop strings: a text ends before the first of them, wherever tokens begin and end. What may turn out to be the beginning
//! of one is held back.

/// Lets a text pass up to a stop string.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl StopStrings {
    /// Ends texts before any of these, none of which is empty.
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Self {
        Self { stops: stops.iter().map(|stop| stop.as_ref().as_bytes().to_vec()).collect(), held: Vec::new() }
    }

    /// Takes the text's next bytes; returns those that are certain to belong to it, and whether it has ended. Of two stop
    /// strings that end together the longer one counts.
    pub fn push(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        for &byte in bytes {
            self.held.push(byte);
            let complete = self.stops.iter().filter(|stop| self.held.ends_with(stop)).map(Vec::len).max();
            if let Some(length) = complete {
                self.held.truncate(self.held.len() - length);
                return (std::mem::take(&mut self.held), true);
            }
        }
        let doubtful = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - doubtful);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The text has ended by itself: what was held back belongs to it.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that `stop` begins with.
fn overlap(text: &[u8], stop: &[u8]) -> usize {
    (1..stop.len()).rev().find(|&length| text.ends_with(&stop[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::StopStrings;

    /// The text that passes, by pieces of every size, and whether it was stopped.
    fn passes(stops: &[&str], text: &str) -> (String, bool) {
        let by_pieces = |size: usize| {
            let mut filter = StopStrings::new(stops);
            let mut passed = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                let (bytes, stopped) = filter.push(piece);
                passed.extend(bytes);
                if stopped {
                    return (String::from_utf8_lossy(&passed).into_owned(), true);
                }
            }
            passed.extend(filter.finish());
            (String::from_utf8_lossy(&passed).into_owned(), false)
        };
        let whole = by_pieces(text.len().max(1));
        for size in 1..text.len() {
            assert_eq!(by_pieces(size), whole, "pieces of {size} bytes of {text:?}");
        }
        whole
    }

    #[test]
    fn a_text_ends_before_the_first_stop_string_wherever_tokens_end() {
        assert_eq!(passes(&["END"], "one END two END"), ("one ".to_owned(), true));
        assert_eq!(passes(&["END"], "one EN two E"), ("one EN two E".to_owned(), false));
        assert_eq!(passes(&["aab"], "xaaab"), ("xa".to_owned(), true));
        assert_eq!(passes(&["abcd", "bc"], "xabcd"), ("xa".to_owned(), true));
        assert_eq!(passes(&["bc", "abc"], "xabcd"), ("x".to_owned(), true));
        assert_eq!(passes(&["é"], "caf\u{e8} et caf\u{e9}"), ("caf\u{e8} et caf".to_owned(), true));
        assert_eq!(passes(&["\n\n"], "a\nb\n\nc"), ("a\nb".to_owned(), true));
        assert_eq!(passes(&[], "anything"), ("anything".to_owned(), false));
    }

    #[test]
    fn only_what_may_begin_a_stop_string_is_held_back() {
        let mut stop = StopStrings::new(&["###", "##!"]);
        assert_eq!(stop.push(b"a#"), (b"a".to_vec(), false));
        assert_eq!(stop.push(b"#"), (b"".to_vec(), false));
        assert_eq!(stop.push(b"b"), (b"##b".to_vec(), false));
        assert_eq!(stop.push(b"##"), (b"".to_vec(), false));
        assert_eq!(stop.finish(), b"##");
    }
}
