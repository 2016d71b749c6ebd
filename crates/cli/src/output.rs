//! Lines to the terminal, and files. A reader that goes away (`evenkeel ... | head`) is no reason to panic.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Who takes the lines about what goes on while stderr belongs to the live view.
type Listener = Box<dyn Fn(&str) + Send>;

static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

/// Gives lines about what goes on to `listener`, or to stderr again.
pub(crate) fn divert(listener: Option<Listener>) {
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = listener;
}

/// Why results did not reach stdout: the first reason.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// A line of results, to stdout.
pub(crate) fn line(text: &str) {
    keep(writeln!(io::stdout().lock(), "{text}"));
}

/// Bytes of text as it comes, to stdout.
pub(crate) fn bytes(text: &[u8]) {
    let mut stdout = io::stdout().lock();
    keep(stdout.write_all(text).and_then(|()| stdout.flush()));
}

/// Remembers that results were lost, unless nobody wants them any more.
fn keep(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        LOST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// The end of all results.
///
/// # Errors
/// Some of them could not be written.
pub(crate) fn finish() -> io::Result<()> {
    keep(io::stdout().lock().flush());
    LOST.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
}

/// Writes a file so that at any moment it is the old or the new one, and leaves nothing else behind.
pub(crate) fn file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || {
        let mut file = fs::File::create(&partial)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&partial);
    })
}

/// A line about what goes on, to stderr or the live view.
pub(crate) fn note(text: &str) {
    match &*LISTENER.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(listener) => listener(text),
        None => {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }
}

/// Takes the log, whose lines come in pieces, as lines about what goes on.
#[derive(Debug, Default)]
pub(crate) struct Log(Vec<u8>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        while let Some(end) = self.0.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            note(String::from_utf8_lossy(&line).trim_end());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What went wrong, to stderr, in one line. Blanks stay as they are: they may be a file's.
pub(crate) fn error(text: &str) {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let one_line: String = lines.collect::<Vec<_>>().join(" ");
    note(&format!("error: {}", one_line.replace(char::is_control, " ")));
}

/// A number of bytes for a person.
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A rate or count for a person: 1.23 G.
pub(crate) fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T", "P"])
}

/// A number with four significant digits.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    if !(1e-3..1e6).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let digits = (3 - magnitude.log10().floor() as i32).max(0) as usize;
    format!("{value:.digits$}")
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
