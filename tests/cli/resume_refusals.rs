//! Runs that do not go on, as their settings are no longer those they began with, and runs with nothing left to do.

use crate::place::Place;

/// Settings under which a run would read other data than it did, or none that it began with.
#[test]
fn with_other_settings_of_its_data_a_run_does_not_go_on_cpu() {
    let place = Place::new();
    place.train_tiny("run", "--seed 3").succeeded();
    let text = String::from_utf8(place.read("run/run.toml")).unwrap();
    let resume = || place.run("pretrain --adapter cpu --resume run");
    let refused = |from: &str, to: &str, parts: &[&str]| {
        assert!(text.contains(from), "expected {from} in\n{text}");
        place.write("run/run.toml", text.replace(from, to));
        resume().refused(parts).refused(&["step-000004", "put run.toml back as it was"]);
    };
    refused("seed = 3", "seed = 5", &["train.seed: expected 5 as in run.toml, got 3"]);
    refused("batch_size = 2", "batch_size = 4", &["train.batch_size: expected 4 as in run.toml, got 2"]);
    refused("seq_len = 16", "seq_len = 8", &["train.seq_len: expected 8 as in run.toml, got 16"]);
    refused("grad_accumulation = 1", "grad_accumulation = 2", &["train.grad_accumulation: expected 2", "got 1"]);
    refused("order = \"shuffled\"", "order = \"sequential\"", &["data.order", "\"sequential\"", "\"shuffled\""]);
    // Also where a checkpoint notes the tokens alone; then a run with as many goes on.
    let trainer = "run/checkpoints/step-000004/trainer.json";
    let mut state = place.json(trainer);
    state.as_object_mut().unwrap().remove("batches").unwrap();
    place.write(trainer, state.to_string());
    refused("batch_size = 2", "batch_size = 4", &["tokens read", "256", "128"]);
    place.write("run/run.toml", &text);
    resume().succeeded();
}

#[test]
fn with_a_run_file_that_was_emptied_or_cut_a_run_does_not_go_on_cpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    let text = String::from_utf8(place.read("run/run.toml")).unwrap();
    let resume = || place.run("pretrain --adapter cpu --resume run");
    let sections = text.match_indices("\n[").map(|(at, _)| at + 1);
    for end in [0].into_iter().chain(sections) {
        place.write("run/run.toml", &text[..end]);
        let missing = text[end..].lines().find_map(|line| line.strip_prefix('[')?.strip_suffix(']')).unwrap();
        resume().refused(&[&format!("{missing}: expected a section"), "put run/run.toml back as it was"]);
    }
    let section_without_keys = text.rfind('[').unwrap() + text[text.rfind('[').unwrap()..].find(']').unwrap() + 1;
    place.write("run/run.toml", &text[..section_without_keys]);
    resume().refused(&["instruments: expected a section"]);
    // A key by itself may be one that an older engine did not know, and more steps are more of the same run.
    let older = text.replace("bos = false\n", "").replace("steps = 4", "steps = 6");
    assert!(!older.contains("bos"), "{older}");
    place.write("run/run.toml", older);
    resume().succeeded();
    assert_eq!(place.metrics("run").last().unwrap()["step"], 6);
}

#[test]
fn a_run_beyond_its_steps_is_told_as_such_cpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    let text = String::from_utf8(place.read("run/run.toml")).unwrap();
    place.write("run/run.toml", text.replace("\nsteps = 4", "\nsteps = 3"));
    let stderr = place.run("pretrain --adapter cpu --resume run").succeeded().stderr();
    assert!(stderr.contains("nothing left to do: 4 steps are done, and train.steps in run.toml is 3"), "{stderr}");
    assert!(!stderr.contains("going on") && !stderr.contains("all "), "{stderr}");
}

/// Stopped before its first step, a run has done what it was asked for, and has left nothing to go on from.
#[test]
fn a_stop_while_the_data_are_prepared_is_no_fault_cpu() {
    let place = Place::new();
    let text: String = (0..200_000).map(|i| format!("word{} and {i} ", i % 977)).collect();
    place.write("book.txt", text);
    let more = "--data book.txt --tokenizer bpe --set model.vocab_size=2048 --max-time 1ms";
    let stderr = place.train_tiny("run", more).succeeded().stderr();
    assert!(stderr.contains("stopped while the data were prepared") && stderr.contains("same command"), "{stderr}");
    assert!(!place.path("run").exists());
}
