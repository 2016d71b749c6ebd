//! `evenkeel generate` with a person at a terminal, which util-linux's `script` makes.
#![cfg(unix)]

use std::{
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::place::Place;

const MODEL: &str = "run/checkpoints/step-000001";
/// What the editor sends as it begins to take a line (bracketed paste); its prompt follows.
const EDITING: &str = "\u{1b}[?2004h";
const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal with `generate` on it.
struct Terminal {
    child: Child,
    /// What it was sent so far.
    shown: Arc<Mutex<Vec<u8>>>,
    /// How much of that was looked at.
    seen: usize,
}

impl Terminal {
    fn open(place: &Place, more: &str) -> Self {
        let binary = place.command([""]).get_program().to_string_lossy().into_owned();
        let line = format!("trap : INT; exec {binary} generate --adapter cpu --model {MODEL} --ignore-eos {more}");
        let mut command = Command::new("script");
        command.args(["-qefc", &line, "/dev/null"]).current_dir(place.path("")).env("TERM", "xterm-256color");
        command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut stdout, into) = (child.stdout.take().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                into.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { child, shown, seen: 0 }
    }

    fn type_in(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).and_then(|()| stdin.flush()).unwrap();
    }

    /// What was shown since the last look, as soon as it satisfies `enough`.
    fn wait(&mut self, what: &str, enough: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let shown = self.shown.lock().unwrap().clone();
            let new = String::from_utf8_lossy(&shown[self.seen..]).into_owned();
            if enough(&new) {
                self.seen = shown.len();
                return new;
            }
            assert!(start.elapsed() < PATIENCE, "expected {what}, got\n{new:?}");
            sleep(Duration::from_millis(2));
        }
    }

    /// Waits until it asks for a prompt, and gives what was shown before.
    fn ready(&mut self) -> String {
        self.wait("a prompt to be asked for", is_ready)
    }

    fn ends(mut self) -> ExitStatus {
        self.type_in(CTRL_D);
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "expected an end after Ctrl-D, got none");
            sleep(Duration::from_millis(5));
        }
    }
}

/// Whether it asks for a prompt at the end of what was shown.
fn is_ready(shown: &str) -> bool {
    shown.rsplit_once(EDITING).is_some_and(|(_, after)| after.contains("> "))
}

fn trained(more: &str) -> Place {
    let place = Place::new();
    place.train_tiny("run", &format!("--steps 1 {more}")).succeeded();
    place
}

#[test]
fn typed_prompts_are_answered_until_ctrl_d_cpu() {
    let place = trained("");
    let mut terminal = Terminal::open(&place, "--max-new-tokens 20");
    assert!(terminal.ready().contains("a prompt on every line; Ctrl-C ends a text, Ctrl-D the program"));
    for prompt in ["Once", "The end"] {
        let given = ["generate", "--adapter", "cpu", "--model", MODEL, "--ignore-eos", "--max-new-tokens", "20"];
        let alone = place.command(given.into_iter().chain(["--prompt", prompt])).output().unwrap();
        // A terminal returns the carriage at the end of a line.
        let text = String::from_utf8(alone.stdout).unwrap().replace('\n', "\r\n");
        assert!(text.len() > prompt.len() + 20, "{text:?}");
        terminal.type_in(&format!("{prompt}\r"));
        let shown = terminal.wait("a text", |new| new.contains(&text) && is_ready(new));
        assert_eq!(shown.matches(&text).count(), 1, "{shown:?}");
    }
    // A line that is given up, and one that cannot be read as a prompt: neither ends the program.
    terminal.type_in(&format!("never{CTRL_C}"));
    let dropped = terminal.wait("another line", |new| is_ready(new) && new.contains("never"));
    terminal.type_in("été\r");
    let refused = terminal.wait("an error", |new| new.contains("error: ") && is_ready(new));
    assert!(refused.contains("195") && !refused.contains("never"), "{dropped:?} {refused:?}");
    assert_eq!(terminal.ends().code(), Some(0));
}

#[test]
fn ctrl_c_ends_a_text_and_not_the_program_cpu() {
    // Seconds for the whole context.
    let place = trained(
        "--set model.hidden_size=256 --set model.intermediate_size=512 --set model.num_hidden_layers=4 \
         --set model.max_position_embeddings=2048 --set train.batch_size=1",
    );
    let mut terminal = Terminal::open(&place, "--max-new-tokens 1000000");
    terminal.ready();
    for prompt in ["Once", "Again"] {
        terminal.type_in(&format!("{prompt}\r"));
        // A text comes while it grows.
        terminal.wait("the beginning of a text", |new| {
            new.rsplit_once(&format!("\n{prompt}")).is_some_and(|(_, text)| text.len() > 10)
        });
        terminal.type_in(CTRL_C);
        let rest = terminal.ready();
        assert!(rest.len() < 2048 && !rest.contains("the context is full"), "{rest:?}");
    }
    assert_eq!(terminal.ends().code(), Some(0));
}

/// Where no prompt is known yet, `--context` alone says how much there may be.
#[test]
fn the_context_of_typed_prompts_is_the_one_asked_for_cpu() {
    let place = trained("--set model.max_position_embeddings=2200");
    for (context, expected) in [("", 2048), ("--context 50", 50), ("--context 2100", 2100)] {
        let mut terminal = Terminal::open(&place, &format!("--max-new-tokens 1000000 {context}"));
        terminal.ready();
        terminal.type_in("Once\r");
        let full = format!("the context is full: prompt 1 has {expected} tokens");
        terminal.wait(&full, |new| new.contains(&full) && is_ready(new));
        assert_eq!(terminal.ends().code(), Some(0));
    }
}
