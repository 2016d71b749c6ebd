//! A folder to work in, and the binary started there.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::Value;
use tempfile::TempDir;

/// A model of 2,744 parameters, of which a step takes about a millisecond.
const TINY: &str = "
[model]
hidden_size = 16
intermediate_size = 24
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
vocab_size = 128
max_position_embeddings = 32

[train]
steps = 4
batch_size = 2
seq_len = 16
eval_every = 2
checkpoint_every = 2
";

/// The cache of all tests: what one has prepared, the others find.
const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/evenkeel-cache");

/// How the name of TensorBoard's event file begins.
const EVENTS: &str = "events.out.tfevents";

/// The binary, in the folder above that of the running test.
fn binary() -> PathBuf {
    let test = env::current_exe().unwrap();
    let binary = test.ancestors().nth(2).unwrap().join(format!("evenkeel{}", env::consts::EXE_SUFFIX));
    assert!(
        binary.is_file(),
        "{}: expected the binary, got nothing; run `cargo build -p evenkeel-cli`",
        binary.display()
    );
    binary
}

/// What `--adapter` is to say for a run on a GPU: `EVENKEEL_ADAPTER`, or the adapter that `evenkeel devices` has first.
pub(crate) fn gpu() -> &'static str {
    static GPU: OnceLock<String> = OnceLock::new();
    GPU.get_or_init(|| {
        env::var("EVENKEEL_ADAPTER").unwrap_or_else(|_| {
            let devices = Place::new().run("devices").succeeded().stdout();
            let name = devices.split([',', '(', '\n']).next().unwrap().trim();
            assert_ne!(name, "cpu", "expected a GPU adapter, got none; `cargo xtask test` installs lavapipe");
            name.to_owned()
        })
    })
}

/// A folder that goes with the test. It has `tiny.toml`, the run file of most tests.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write("tiny.toml", TINY);
        place
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).unwrap();
    }

    pub(crate) fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        let path = self.path(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn json(&self, name: impl AsRef<Path>) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Names in a folder, sorted; an event file's without the time.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let name = |name: String| if name.starts_with(EVENTS) { EVENTS.to_owned() } else { name };
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap().file_name().into_string().unwrap())).collect();
        names.sort();
        names
    }

    /// The rows of a run's `metrics.jsonl`.
    pub(crate) fn metrics(&self, run: &str) -> Vec<Value> {
        let text = String::from_utf8(self.read(format!("{run}/metrics.jsonl"))).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Writes a token shard whose header may lie.
    pub(crate) fn write_shard(&self, name: &str, header: [i32; 3], tokens: &[u16]) {
        let words = header.into_iter().chain([0; 253]);
        let bytes: Vec<u8> =
            words.flat_map(i32::to_le_bytes).chain(tokens.iter().flat_map(|id| id.to_le_bytes())).collect();
        self.write(name, bytes);
    }

    /// The binary in this folder with arguments, to be started.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        self.started_by(&[], arguments)
    }

    /// The binary in this folder, started by another program that takes a command at its end.
    pub(crate) fn started_by<S: AsRef<OsStr>>(
        &self,
        starter: &[&str],
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let binary = binary();
        let mut command = match starter {
            [] => Command::new(binary),
            [program, rest @ ..] => {
                let mut command = Command::new(program);
                command.args(rest).arg(binary);
                command
            }
        };
        command.args(arguments).current_dir(self.folder.path()).env_remove("RUST_LOG").env("EVENKEEL_CACHE", CACHE);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the binary with arguments that white space separates.
    pub(crate) fn run(&self, arguments: &str) -> Finished {
        Finished::of(self.command(arguments.split_whitespace()))
    }

    /// Trains `tiny.toml` on the CPU executor into the folder `run`.
    pub(crate) fn train_tiny(&self, run: &str, more: &str) -> Finished {
        self.run(&format!("pretrain --adapter cpu --config tiny.toml --out {run} {more}"))
    }

    /// Fails where the folder holds a checkpoint.
    pub(crate) fn has_no_checkpoint(&self) {
        let found: Vec<_> = find(self.folder.path()).into_iter().filter(|path| is_checkpoint(path)).collect();
        assert!(found.is_empty(), "expected no checkpoint, got {found:?}");
    }
}

fn is_checkpoint(path: &Path) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("step-"))
}

fn find(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| {
            let below = if entry.file_type().unwrap().is_dir() { find(&entry.path()) } else { Vec::new() };
            below.into_iter().chain([entry.path()])
        })
        .collect()
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    output: Output,
}

impl Finished {
    pub(crate) fn of(mut command: Command) -> Self {
        Self { output: command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")) }
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub(crate) fn stdout_bytes(&self) -> &[u8] {
        &self.output.stdout
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Exit status 0 and no error line.
    pub(crate) fn succeeded(self) -> Self {
        let stderr = self.stderr();
        assert!(self.output.status.success(), "expected success, got {}:\n{stderr}", self.output.status);
        assert!(!stderr.lines().any(is_error), "expected no error line, got\n{stderr}");
        self
    }

    /// Exit status 1 or 2 and one error line on stderr, the last, with all these parts.
    pub(crate) fn refused(self, parts: &[&str]) -> Self {
        let stderr = self.stderr();
        let code = self.output.status.code();
        assert!(matches!(code, Some(1 | 2)), "expected exit status 1 or 2, got {}:\n{stderr}", self.output.status);
        assert_eq!(stderr.lines().filter(|line| is_error(line)).count(), 1, "expected one error line, got\n{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        let error = stderr.lines().last().unwrap();
        for part in parts {
            assert!(is_error(error) && error.contains(part), "expected a last line with {part:?}, got\n{stderr}");
        }
        self
    }
}

fn is_error(line: &str) -> bool {
    line.to_lowercase().contains("error")
}
