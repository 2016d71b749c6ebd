//! Lines to the terminal. A reader that goes away (`evenkeel ... | head`) is no reason to panic.

use std::io::{self, Write};

/// A line of results, to stdout.
pub(crate) fn line(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Bytes of text as it comes, to stdout.
pub(crate) fn bytes(text: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text).and_then(|()| stdout.flush());
}

/// A line about what goes on, to stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What went wrong, to stderr, in one line.
pub(crate) fn error(text: &str) {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    note(&format!("error: {one_line}"));
}

/// A number of bytes for a person.
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A rate or count for a person: 1.23 G.
pub(crate) fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T", "P"])
}

fn scaled(mut value: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let digits = if unit == 0 && value.fract() == 0.0 { 0 } else { 2 };
    format!("{value:.digits$} {}", units[unit]).trim_end().to_owned()
}
