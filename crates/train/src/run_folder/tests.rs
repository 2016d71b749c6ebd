#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::inspection::run::{Sample, samples as samples_of};

/// A run folder that has got as far as its run file.
fn begun(path: &Path) -> RunFolder {
    let run = RunFolder::create(path).unwrap();
    run.write_run_file("[train]\n").unwrap();
    run
}

fn error(result: Result<RunFolder, CheckpointError>) -> String {
    let error = result.unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn a_new_run_takes_a_new_or_empty_folder() {
    let folder = tempfile::tempdir().unwrap();
    let run = begun(&folder.path().join("deep/er"));
    assert!(run.checkpoints().is_dir());
    assert_eq!(fs::read_to_string(run.run_file()).unwrap(), "[train]\n");
    RunFolder::create(folder.path().join("deep/er").parent().unwrap()).unwrap_err();
    let empty = tempfile::tempdir().unwrap();
    RunFolder::create(empty.path()).unwrap();
}

#[test]
fn a_finished_or_foreign_folder_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.txt"), "x").unwrap();
    let message = error(RunFolder::create(&foreign));
    assert!(message.contains("holds thesis.txt") && message.contains("--out"), "{message}");
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);

    let finished = folder.path().join("finished");
    drop(begun(&finished));
    let message = error(RunFolder::create(&finished));
    assert!(message.contains("expected a new or empty folder"), "{message}");

    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(error(RunFolder::create(&file)).contains("cannot create "));
}

#[test]
fn a_running_folder_is_locked_until_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = begun(&path);
    let in_use = format!("run folder {} is in use by another process", path.display());
    assert_eq!(error(RunFolder::open(&path)), in_use);
    assert_eq!(error(RunFolder::create(&path)), in_use);
    drop(run);
    let run = RunFolder::open(&path).unwrap();
    assert_eq!(error(RunFolder::open(&path)), in_use);
    drop(run);
    RunFolder::open(&path).unwrap();
}

#[test]
fn resuming_needs_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    assert!(error(RunFolder::open(&missing)).ends_with("got nothing there; `evenkeel pretrain` makes one"));
    assert!(!missing.exists());
    assert!(error(RunFolder::open(folder.path())).ends_with("got a folder without it; `evenkeel pretrain` makes one"));
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(error(RunFolder::open(&file)).ends_with("got a file; `evenkeel pretrain` makes one"));
}

#[test]
fn what_a_kill_left_incomplete_goes_when_the_run_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let run = begun(folder.path());
    let partial = run.partial().join("step-000005");
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("model.safetensors"), "half").unwrap();
    drop(run);
    let run = RunFolder::open(folder.path()).unwrap();
    assert_eq!(fs::read_dir(run.partial()).unwrap().count(), 0);
}

#[test]
fn metrics_are_appended_row_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let run = begun(folder.path());
    let mut metrics = run.metrics(0).unwrap();
    metrics.append(&json!({"step": 1, "loss": 5.5})).unwrap();
    let path = folder.path().join("metrics.jsonl");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":1,\"loss\":5.5}\n");
    metrics.append(&json!({"step": 2, "loss": 5.25})).unwrap();
    drop(metrics);
    run.metrics(2).unwrap().append(&json!({"step": 3})).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, "{\"step\":1,\"loss\":5.5}\n{\"step\":2,\"loss\":5.25}\n{\"step\":3}\n");
}

#[test]
fn cutting_keeps_the_bytes_of_earlier_rows_and_drops_a_torn_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = begun(folder.path());
    let path = folder.path().join("metrics.jsonl");
    run.metrics(3).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    let rows = "{\"step\":1, \"loss\":5}\n{\"valid_loss\":4,\"step\":1}\n{\"step\":2}\n{\"step\":3}\n";
    for (torn, step, kept) in [
        ("", 9, rows),
        ("{\"step\":4,\"lo", 9, rows),
        ("{", 3, rows),
        ("{\"step\":4}", 3, rows),
        ("{\"step\":4,\"lo", 1, &rows[..47]),
        ("", 0, ""),
    ] {
        fs::write(&path, format!("{rows}{torn}")).unwrap();
        run.metrics(step).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), kept, "{torn:?} {step}");
    }
    fs::write(&path, "{\"step\":1}").unwrap();
    run.metrics(1).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":1}\n");
}

#[test]
fn samples_are_cut_as_metrics_are() {
    let folder = tempfile::tempdir().unwrap();
    let run = begun(folder.path());
    let sample = |step: u64| Sample { step, text: format!("\"After\"\n{step}") };
    let mut samples = run.samples(0).unwrap();
    assert!(!samples.ends_with(10));
    for step in [10, 20, 30] {
        samples.append(&sample(step)).unwrap();
        assert!(samples.ends_with(step) && !samples.ends_with(step - 10));
    }
    drop(samples);
    let path = folder.path().join("samples.jsonl");
    let torn = fs::read_to_string(&path).unwrap() + "{\"step\":40,\"te";
    fs::write(&path, torn).unwrap();
    let again = run.samples(20).unwrap();
    assert!(again.ends_with(20));
    drop(again);
    let (kept, broken) = samples_of(folder.path()).unwrap();
    assert_eq!((kept, broken.len()), (vec![sample(10), sample(20)], 0));
}

#[test]
fn metrics_that_are_none_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let run = begun(folder.path());
    let path = folder.path().join("metrics.jsonl");
    for line in ["hello", "{\"step\":-1}", "{\"loss\":1}", "[1]", ""] {
        let text = format!("{{\"step\":1}}\n{line}\n{{\"step\":2}}\n");
        fs::write(&path, &text).unwrap();
        let error = run.metrics(1).unwrap_err().to_string();
        assert!(error.contains("a row with a step in line 2, got"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
