//! Results that cannot be written, to standard output or into a file, and what errors say of names.

use crate::place::{Finished, Place};

/// A device that is always full.
#[cfg(target_os = "linux")]
fn into_full_device(place: &Place, arguments: &str) -> Finished {
    let mut command = place.command(arguments.split_whitespace());
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    Finished::of(command)
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_are_lost_are_an_error() {
    let place = Place::new();
    for arguments in ["man", "completions bash", "--help", "--version", "schedule dump --preset nano"] {
        into_full_device(&place, arguments).refused(&["standard output: "]);
    }
    // What is wrong with arguments goes to stderr.
    into_full_device(&place, "bench --seconds none").refused(&[]);
}

/// A reader that goes away has what it wanted.
#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let mut command = place.command(["man"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer);
    Finished::of(command).succeeded();
}

/// Below the limit of files' sizes that the process has, and where a folder has the name.
#[cfg(unix)]
#[test]
fn files_are_whole_or_not_there() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    place.write("text.txt", "once upon a time, ".repeat(2000));
    std::fs::create_dir_all(place.path("taken")).unwrap();
    let before = place.list("");
    for verb in ["tokenizer train --data text.txt --vocab 400 --out", "report run --out"] {
        place.run(&format!("{verb} taken")).refused(&["taken"]);
        assert_eq!(place.list(""), before, "{verb}");
        let arguments = verb.split(' ').chain(["small"]);
        // In blocks of 512 bytes.
        let limited = place.started_by(&["sh", "-c", "ulimit -f 4; exec \"$0\" \"$@\""], arguments);
        Finished::of(limited).refused(&["small", "too large"]);
        assert_eq!(place.list(""), before, "{verb}");
    }
}

#[test]
fn names_stay_as_they_are() {
    let place = Place::new();
    let finished = Finished::of(place.command(["inspect", "no  such"]));
    finished.refused(&["no  such"]);
}
