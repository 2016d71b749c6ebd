//! Samples of what the model writes while it is trained.

use std::{fs, process::Command};

use serde_json::Value;

use crate::{place::Place, resume::wait_for_rows};

fn samples_of(place: &Place, run: &str) -> Vec<(u64, String)> {
    let text = String::from_utf8(place.read(format!("{run}/samples.jsonl"))).unwrap();
    let row = |line| {
        let row: Value = serde_json::from_str(line).unwrap();
        (row["step"].as_u64().unwrap(), row["text"].as_str().unwrap().to_owned())
    };
    text.lines().map(row).collect()
}

#[test]
fn a_run_writes_samples_and_shows_the_last_cpu() {
    let place = Place::new();
    let finished = place.train_tiny("run", "--steps 7 --set train.sample_every=3").succeeded();
    let samples = samples_of(&place, "run");
    assert_eq!(samples.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [3, 6, 7]);
    // The context is 16 tokens, bytes here, and begins with one that is not shown.
    assert!(samples.iter().all(|(_, text)| text.len() == 15), "{samples:?}");
    assert_eq!(finished.stdout(), format!("{}\n", samples[2].1));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = format!("step 3  it writes: {}", words(&samples[0].1));
    assert!(finished.stderr().lines().any(|shown| shown.trim_end() == line.trim_end()), "{}", finished.stderr());
    // A sample is drawn from the weights of its step: that of step 3 is the last one of a run that has the same first steps.
    place.train_tiny("short", "--steps 3 --set schedule.kind=constant --set schedule.warmup_steps=0").succeeded();
    place
        .train_tiny(
            "long",
            "--steps 6 --set train.sample_every=3 --set schedule.kind=constant --set schedule.warmup_steps=0",
        )
        .succeeded();
    assert_eq!(samples_of(&place, "short"), samples_of(&place, "long")[..1]);
    let report = place.run("report run --out page.html");
    report.succeeded();
    let page = String::from_utf8(place.read("page.html")).unwrap();
    assert!(page.contains(r#"<p class="step">step 6</p>"#), "expected the samples in the report");
}

/// Neither the steps nor their rows depend on whether samples are written between them.
#[test]
fn samples_leave_the_training_alone_cpu() {
    let place = Place::new();
    place.train_tiny("with", "--set train.sample_every=1").succeeded();
    place.train_tiny("without", "--set train.sample_every=0").succeeded();
    assert_eq!(samples_of(&place, "with").len(), 4);
    assert_eq!(samples_of(&place, "without").len(), 1);
    let model = |run| place.read(format!("{run}/checkpoints/step-000004/model.safetensors"));
    assert!(model("with") == model("without"), "expected equal models, got others");
}

#[test]
fn a_sample_that_a_kill_prevented_is_written_by_the_resumed_run_cpu() {
    let place = Place::new();
    place.train_tiny("run", "--set train.sample_every=2").succeeded();
    let whole = samples_of(&place, "run");
    let rows = place.read("run/samples.jsonl");
    let first = rows.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    // A kill behind the last checkpoint, before the sample or within its row.
    for end in [first, first + 9] {
        place.write("run/samples.jsonl", &rows[..end]);
        place.run("pretrain --adapter cpu --resume run").succeeded();
        assert_eq!(samples_of(&place, "run"), whole);
    }
    // Samples of steps that are done again are not there twice.
    fs::remove_dir_all(place.path("run/checkpoints/step-000004")).unwrap();
    place.run("pretrain --adapter cpu --resume run").succeeded();
    assert_eq!(samples_of(&place, "run"), whole);
}

/// A stop within a sample leaves a checkpoint of its step, and the run that goes on writes it first.
#[cfg(unix)]
#[test]
fn a_sample_that_a_stop_interrupted_is_written_by_the_resumed_run_cpu() {
    let place = Place::new();
    // A sample of a hundred tokens, for much longer than it takes to send a signal.
    let more = "--steps 4 --set train.sample_every=1 --set train.eval_every=0 --set train.checkpoint_every=0 \
                --set train.batch_size=1 --set train.seq_len=512 --set model.max_position_embeddings=512 \
                --set model.hidden_size=128 --set model.num_hidden_layers=8";
    place.train_tiny("unbroken", more).succeeded();
    let arguments = format!("pretrain --adapter cpu --config tiny.toml --out run {more}");
    let mut child = place.command(arguments.split_whitespace()).spawn().unwrap();
    wait_for_rows(&place, "run", 2, &mut child);
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && stderr.contains("goes on after step 2"), "{stderr}");
    assert_eq!(place.list("run/checkpoints"), ["step-000002"]);
    assert_eq!(samples_of(&place, "run").len(), 1);
    // Once more, within the sample that is owed: no step is done before it is written.
    let finished = place.run("pretrain --adapter cpu --resume run --max-time 0s").succeeded();
    assert!(finished.stderr().contains("stopped after step 2, before another"), "{}", finished.stderr());
    assert_eq!(place.list("run/checkpoints"), ["step-000002"]);
    place.run("pretrain --adapter cpu --resume run").succeeded();
    assert_eq!(samples_of(&place, "run"), samples_of(&place, "unbroken"));
}

#[test]
fn without_a_tokenizer_there_are_no_samples_cpu() {
    let place = Place::new();
    let tokens: Vec<u16> = (0..600).map(|i| i % 128).collect();
    place.write_shard("train.bin", [20_240_520, 1, 600], &tokens);
    place.train_tiny("run", "--data train.bin").succeeded();
    assert!(!place.path("run/samples.jsonl").exists());
}
