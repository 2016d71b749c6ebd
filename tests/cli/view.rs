//! The live view on a terminal, which util-linux's `script` makes.
#![cfg(target_os = "linux")]

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    non_finite::TOO_FAST,
    place::{Finished, Place},
    resume::wait_for_rows,
};

const OPEN: &str = "\u{1b}[?1049h";
const CLOSED: &str = "\u{1b}[?1049l";
const ENDLESS: &str = "--out run --steps 2000000 --set train.checkpoint_every=0 --set train.eval_every=0";

const LONG: &str = "--out run --steps 20000 --set train.checkpoint_every=0 --set train.eval_every=0 \
                    --set train.sample_every=0";

/// Starts `pretrain` on a terminal of 80x24; `ended` then has its status, and what the terminal is like afterwards.
fn on_a_terminal(place: &Place, environment: &str, arguments: &str) -> Child {
    let binary = place.command([""]).get_program().to_string_lossy().into_owned();
    let run = format!("{binary} pretrain --adapter cpu --config tiny.toml {arguments}");
    let line = format!(
        "trap : INT; stty cols 80 rows 24; {environment} sh -c 'echo $$ > pid; exec {run}'; echo status $? > ended; stty -a >> ended"
    );
    // A test under nohup would hand its deaf ear for SIGHUP on to the run.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=HUP", "script", "-qefc", &line, "/dev/null"])
        .current_dir(place.path(""))
        .env("TERM", "xterm-256color");
    command.env_remove("NO_COLOR").env("SHELL", "/bin/sh");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the end; gives what the terminal was sent, in two parts: until it was given back, and after that.
fn ended(place: &Place, child: Child, status: i32) -> (String, String) {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let ended = String::from_utf8(place.read("ended")).unwrap();
    let words: Vec<&str> = ended.split([' ', ';', '\n']).collect();
    assert_eq!(words[..2], ["status", &status.to_string()], "{text}");
    assert!(["icanon", "echo", "isig", "onlcr"].iter().all(|word| words.contains(word)), "{ended}");
    assert_eq!((text.matches(OPEN).count(), text.matches(CLOSED).count()), (1, 1), "{text}");
    let (view, after) = text.split_once(CLOSED).unwrap();
    assert!(view.contains(OPEN) && text.rfind("\u{1b}[?25h") > text.rfind("\u{1b}[?25l"), "{text}");
    (view.to_owned(), after.to_owned())
}

fn type_in(child: &mut Child, keys: &[u8]) {
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(keys).and_then(|()| stdin.flush()).unwrap();
}

fn kill(place: &Place, signal: &str) {
    let pid = String::from_utf8(place.read("pid")).unwrap();
    assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
}

fn stopped_by(action: impl Fn(&Place, &mut Child)) {
    let place = Place::new();
    let mut child = on_a_terminal(&place, "", ENDLESS);
    wait_for_rows(&place, "run", 300, &mut child);
    sleep(Duration::from_millis(600));
    action(&place, &mut child);
    let (view, after) = ended(&place, child, 0);
    for part in ["loss", "grad", "resident", "q or Ctrl-C", "std of the matrices", "\u{1b}[38;5;"] {
        assert!(view.contains(part), "expected {part:?}, got\n{view}");
    }
    assert!(after.contains("checkpoint run/checkpoints/step-") && after.contains("--resume run"), "{after}");
    assert_eq!(place.list("run/checkpoints").len(), 1);
}

#[test]
fn q_and_signals_stop_a_run_and_give_the_terminal_back_cpu() {
    stopped_by(|_, child| type_in(child, b"q"));
    stopped_by(|_, child| type_in(child, b"\x03"));
    stopped_by(|place, _| kill(place, "-TERM"));
}

/// Waits for the end of a run whose terminal went away.
fn ends_without_its_terminal(place: &Place) {
    let pid = String::from_utf8(place.read("pid")).unwrap();
    let start = Instant::now();
    while Path::new(&format!("/proc/{}/exe", pid.trim())).exists() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "expected the run to end without its terminal, got one that hangs"
        );
        sleep(Duration::from_millis(20));
    }
}

/// As when a connection breaks: the run stops with a checkpoint, or, under nohup, goes on to its end.
#[test]
fn a_terminal_that_goes_away_does_not_keep_a_run_cpu() {
    for (environment, more) in [("", ENDLESS), ("trap '' HUP;", LONG)] {
        let place = Place::new();
        let mut child = on_a_terminal(&place, environment, more);
        wait_for_rows(&place, "run", 300, &mut child);
        sleep(Duration::from_millis(600));
        child.kill().unwrap();
        child.wait().unwrap();
        ends_without_its_terminal(&place);
        let checkpoints = place.list("run/checkpoints");
        assert!(!checkpoints.is_empty(), "{environment:?}: expected a checkpoint");
        let goes_on = !environment.is_empty();
        assert_eq!(checkpoints.contains(&"step-020000".to_owned()), goes_on, "{checkpoints:?}");
    }
}

#[test]
fn a_run_that_ends_gives_the_terminal_back_cpu() {
    let place = Place::new();
    let child = on_a_terminal(&place, "NO_COLOR=1", "--out run --steps 400");
    let (view, after) = ended(&place, child, 0);
    assert!(!view.contains("\u{1b}[38;5;") && view.contains("step"), "{view}");
    assert!(after.contains("finished after step 400"), "{after}");
    // The numbers leave f32 after some steps.
    let child = on_a_terminal(&place, "", &format!("--out broken {TOO_FAST}"));
    let (_, after) = ended(&place, child, 1);
    assert!(after.contains("error: "), "{after}");
}

#[test]
fn a_second_ctrl_c_gives_the_terminal_back_in_the_middle_of_a_step_cpu() {
    let place = Place::new();
    let mut child = on_a_terminal(&place, "", "--out run --set train.grad_accumulation=1000000");
    let start = Instant::now();
    while !fs::exists(place.path("run/metrics.jsonl")).unwrap() {
        assert!(start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_secs(1));
    type_in(&mut child, b"\x03");
    sleep(Duration::from_millis(500));
    type_in(&mut child, b"\x03");
    ended(&place, child, 130);
    place.has_no_checkpoint();
}

#[test]
fn plain_and_dumb_terminals_get_lines_cpu() {
    for (environment, more) in [("", "--plain"), ("TERM=dumb", "")] {
        let place = Place::new();
        let child = on_a_terminal(&place, environment, &format!("--out run --steps 3 {more}"));
        let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert!(text.contains("step 3/3  loss") && !text.contains(OPEN), "{text}");
    }
    // Without a terminal: the same.
    let place = Place::new();
    let finished = Finished::of(place.command("pretrain --adapter cpu --config tiny.toml --out run".split(' ')));
    assert!(!finished.succeeded().stderr().contains('\u{1b}'));
}
