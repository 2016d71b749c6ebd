//! `evenkeel study`: what it runs, writes, goes on with and refuses.

use std::fs;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::{
    place::{Finished, Place},
    resume::wait_for_rows,
};

/// Arms of two learning rates, over `tiny.toml`'s settings.
const ARMS: &str = "
[[arm]]
name = \"slow\"
[arm.optimizer]
lr = 1e-4

[[arm]]
name = \"Fast, 100 times\"
[arm.optimizer]
lr = 1e-2
";

/// A place with `study.toml`: these seeds, `tiny.toml` with `steps` steps for all arms, and the arms.
fn place(seeds: &str, steps: usize, arms: &str) -> Place {
    let place = Place::new();
    write(&place, seeds, steps, arms);
    place
}

fn write(place: &Place, seeds: &str, steps: usize, arms: &str) {
    let base = String::from_utf8(place.read("tiny.toml")).unwrap();
    let base = base.replace("steps = 4", &format!("steps = {steps}"));
    let base = base.replace("[model]", "[base.model]").replace("[train]", "[base.train]");
    place.write("study.toml", format!("[study]\nname = \"tiny\"\nseeds = {seeds}\n{base}\n{arms}"));
}

fn study(place: &Place, out: &str) -> Finished {
    place.run(&format!("study study.toml --adapter cpu --out {out}"))
}

/// Without what depends on the speed of the machine.
fn timeless(mut value: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|key, _| !["seconds", "tokens_per_s"].contains(&key.as_str()));
                map.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut value);
    value
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected a number, got {value}"))
}

fn last_of(place: &Place, run: &str, key: &str) -> f64 {
    place.metrics(run).iter().rev().find_map(|row| row.get(key)?.as_f64()).unwrap()
}

/// Standard deviation (N - 1) of a tensor in a checkpoint's file.
fn std_of(place: &Place, checkpoint: &str, name: &str) -> f64 {
    let bytes = place.read(format!("{checkpoint}/model.safetensors"));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (elements, _) = file.tensor(name).unwrap().data().as_chunks::<4>();
    let values: Vec<f64> = elements.iter().map(|&element| f64::from(f32::from_le_bytes(element))).collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
}

#[test]
fn every_arm_runs_with_every_seed_and_is_compared_cpu() {
    let place = place("[3, 8]", 6, ARMS);
    let finished = study(&place, "out").succeeded();
    assert_eq!(place.list("out"), ["fast-100-times", "plots", "slow", "study.json", "study.md"]);
    assert!(finished.stdout().contains("Fast, 100 times"), "{}", finished.stdout());
    let losses = |arm: &str| ["3", "8"].map(|seed| result(&place, &format!("out/{arm}/seed-{seed}")));
    let (slow, fast) = (losses("slow"), losses("fast-100-times"));
    let report = place.json("out/study.json");
    let [base, other] = [0, 1].map(|arm| &report["arms"][arm]);
    assert!((number(&base["loss"]["mean"]) - (slow[0] + slow[1]) / 2.0).abs() < 1e-12);
    // Of two values, the standard deviation is their distance over the root of two.
    let deviation = (fast[0] - fast[1]).abs() / 2f64.sqrt();
    assert!((number(&other["loss"]["standard_deviation"]) - deviation).abs() < 1e-12);
    assert!(base["difference"].is_null());
    let difference = &other["difference"];
    let expected = [fast[0] - slow[0], fast[1] - slow[1]];
    for (got, expected) in difference["by_seed"].as_array().unwrap().iter().zip(expected) {
        assert!((number(got) - expected).abs() < 1e-12);
    }
    let mean = (expected[0] + expected[1]) / 2.0;
    assert!((number(&difference["mean"]) - mean).abs() < 1e-12);
    let [low, high] = [0, 1].map(|bound| number(&difference["interval"][bound]));
    assert!(low < mean && mean < high, "{difference}");
    // Six steps at a hundred times the rate learn what the others do not; every seed shows it.
    assert!(high < 0.0, "{difference}");
    let settings = &other["settings"];
    assert_eq!(settings.as_object().unwrap().keys().collect::<Vec<_>>(), ["optimizer.lr"]);
    assert_eq!(report["settings"]["train.steps"], "6");
    let text = String::from_utf8(place.read("out/study.md")).unwrap();
    assert!(text.contains(&format!("{mean:+.4} [{low:+.4}, {high:+.4}]")), "{text}");
    assert!(text.contains("2 seeds") && text.contains("| optimizer.lr "), "{text}");
    let plots = place.list("out/plots");
    for plot in ["difference.svg", "final_loss.svg", "validation_loss.svg"] {
        assert!(plots.iter().any(|name| name == plot), "expected {plot}, got {plots:?}");
    }
}

/// The validation loss in a run's result, which must agree with the run's metrics and checkpoint.
fn result(place: &Place, run: &str) -> f64 {
    let result = place.json(format!("{run}/result.json"));
    let loss = number(&result["validation_loss"]);
    assert!((loss - last_of(place, run, "valid_loss")).abs() < 1e-12);
    let windows: Vec<f64> = result["windows"].as_array().unwrap().iter().map(number).collect();
    assert!((windows.iter().sum::<f64>() / windows.len() as f64 - loss).abs() < 1e-12);
    assert_eq!((&result["step"], &result["outcome"]), (&Value::from(6), &Value::from("finished")));
    for matrix in result["matrices"].as_array().unwrap() {
        let name = matrix["name"].as_str().unwrap();
        let expected = std_of(place, &format!("{run}/checkpoints/step-000006"), name);
        assert!((number(&matrix["std"]) / expected - 1.0).abs() < 1e-12, "{name}: expected {expected}, got {matrix}");
    }
    assert_eq!(result["matrices"].as_array().unwrap().len(), 9);
    loss
}

/// A run of a study is the run that `pretrain` makes of the same settings; the seed decides the data, not the arm.
#[test]
fn a_run_is_an_ordinary_one_cpu() {
    let place = place("[3, 8]", 4, ARMS);
    study(&place, "out").succeeded();
    place.train_tiny("alone", "--seed 8 --set optimizer.lr=1e-2").succeeded();
    let rows = |run: &str| place.metrics(run).into_iter().map(timeless).collect::<Vec<_>>();
    assert_eq!(rows("out/fast-100-times/seed-8"), rows("alone"));
    assert_eq!(place.read("out/fast-100-times/seed-8/run.toml"), place.read("alone/run.toml"));
    let first = |run: &str| number(&place.metrics(run)[0]["loss"]);
    assert_eq!(first("out/slow/seed-8"), first("alone"));
    assert_ne!(first("out/slow/seed-3"), first("alone"));
    place.run("pretrain --adapter cpu --resume out/slow/seed-3").succeeded();
}

#[test]
fn a_killed_study_ends_as_an_unbroken_one_cpu() {
    let place = place("[1, 2]", 40, ARMS);
    study(&place, "unbroken").succeeded();
    let command = || place.command("study study.toml --adapter cpu --out killed".split_whitespace());
    for (run, rows) in [("slow/seed-1", 3), ("fast-100-times/seed-1", 17), ("slow/seed-2", 30)] {
        let mut child = command().spawn().unwrap();
        wait_for_rows(&place, &format!("killed/{run}"), rows, &mut child);
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "expected a killed study, got a finished one");
        assert!(!place.path("killed/study.json").exists());
    }
    let stderr = study(&place, "killed").succeeded().stderr();
    assert!(stderr.contains("2 of 4 runs done") && stderr.contains("going on after step"), "{stderr}");
    for run in ["slow/seed-1", "slow/seed-2", "fast-100-times/seed-1", "fast-100-times/seed-2"] {
        let of = |out: &str| timeless(place.json(format!("{out}/{run}/result.json"))).to_string();
        assert_eq!(of("killed"), of("unbroken"), "{run}");
    }
    let report = |out: &str| timeless(place.json(format!("{out}/study.json"))).to_string();
    assert_eq!(report("killed"), report("unbroken"));
    // Once more, with nothing left to do: times too stay as they were.
    let before = place.read("killed/study.json");
    study(&place, "killed").succeeded();
    assert!(place.read("killed/study.json") == before, "expected the report to stay as it is, got another");
}

/// A kill may come when the last checkpoint is written and the result is not, or before a run has its run file.
#[test]
fn a_study_goes_on_from_between_files_cpu() {
    let place = place("[1]", 4, ARMS);
    study(&place, "out").succeeded();
    let before = timeless(place.json("out/study.json"));
    fs::remove_file(place.path("out/slow/seed-1/result.json")).unwrap();
    // As a kill leaves it that comes before anything was written: run.toml is the first.
    let begun = place.path("out/fast-100-times/seed-1");
    for entry in fs::read_dir(&begun).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() && entry.file_name() != "lock" {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    for checkpoint in fs::read_dir(begun.join("checkpoints")).unwrap() {
        fs::remove_dir_all(checkpoint.unwrap().path()).unwrap();
    }
    study(&place, "out").succeeded();
    assert_eq!(timeless(place.json("out/study.json")), before);
}

#[cfg(unix)]
#[test]
fn a_stopped_study_says_how_to_go_on_cpu() {
    let place = place("[1]", 20_000, ARMS);
    let mut child = place.command("study study.toml --adapter cpu --out out".split_whitespace()).spawn().unwrap();
    wait_for_rows(&place, "out/slow/seed-1", 3, &mut child);
    let kill = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && stderr.contains("the same command goes on"), "{stderr}");
    assert!(!stderr.contains("--resume"), "{stderr}");
    let last = place.metrics("out/slow/seed-1").iter().filter_map(|row| row["step"].as_u64()).max().unwrap();
    assert!(place.path(format!("out/slow/seed-1/checkpoints/step-{last:06}")).is_dir(), "{last}");
    assert!(!place.path("out/slow/seed-1/result.json").exists());
}

#[test]
fn begun_runs_keep_their_settings_and_new_ones_join_cpu() {
    let place = place("[1]", 4, ARMS);
    study(&place, "out").succeeded();
    let before = place.read("out/study.json");
    write(&place, "[1]", 5, ARMS);
    study(&place, "out").refused(&["train.steps", "expected 5", "got 4", "out/slow/seed-1"]);
    write(&place, "[1]", 4, &ARMS.replace("1e-2", "1e-1"));
    study(&place, "out").refused(&["optimizer.lr", "expected 0.1", "got 0.01", "out/fast-100-times/seed-1"]);
    assert!(place.read("out/study.json") == before, "expected refusals to change nothing, got another report");
    let first = place.read("out/slow/seed-1/result.json");
    write(&place, "[1, 2]", 4, ARMS);
    let stderr = study(&place, "out").succeeded().stderr();
    assert!(stderr.contains("2 of 4 runs done"), "{stderr}");
    assert!(place.read("out/slow/seed-1/result.json") == first, "expected a result to stay as it is, got another");
}

#[test]
fn a_grid_multiplies_arms_cpu() {
    let arms = format!("{ARMS}\n[grid]\n\"init.std\" = [0.01, 0.02]\n\"optimizer.kind\" = [\"adamw\"]\n");
    let place = place("[1]", 1, &arms);
    study(&place, "out").succeeded();
    let report = place.json("out/study.json");
    let names: Vec<_> = report["arms"].as_array().unwrap().iter().map(|arm| arm["name"].as_str().unwrap()).collect();
    let cells = ["init.std=0.01 optimizer.kind=adamw", "init.std=0.02 optimizer.kind=adamw"];
    let expected = ["slow", "Fast, 100 times"].into_iter().flat_map(|arm| cells.map(|cell| format!("{arm} {cell}")));
    assert_eq!(names, expected.collect::<Vec<_>>());
    assert_eq!(place.list("out/slow-init-std-0-02-optimizer-kind-adamw"), ["seed-1"]);
    assert_eq!(report["arms"][3]["settings"]["init.std"], "0.02");
}

/// Numbers that leave the range of f32 are an arm's result, and no reason to lose the others'.
#[test]
fn an_arm_that_diverges_is_told_cpu() {
    let arms = ARMS.replace("1e-2", "1e18").replace("lr = 1e-4", "lr = 1e-4\nweight_decay = 0.0");
    let place = place("[1, 2]", 4, &format!("{arms}weight_decay = 0.0\n[arm.schedule]\nkind = \"constant\"\n"));
    study(&place, "out").succeeded();
    let report = place.json("out/study.json");
    let diverged = &report["arms"][1];
    assert_eq!(diverged["validation_loss"], serde_json::json!([null, null]));
    assert!(diverged["loss"].is_null() && diverged["difference"].is_null());
    assert!(diverged["diverged"][1].as_str().unwrap().starts_with("seed 2: step 2: loss NaN"), "{diverged}");
    assert!(report["arms"][0]["loss"]["mean"].is_number());
    let text = String::from_utf8(place.read("out/study.md")).unwrap();
    assert!(text.contains("2 diverged"), "{text}");
    // It is not run again.
    assert!(study(&place, "out").succeeded().stderr().contains("4 of 4 runs done"));
}

/// A loss per token says something else of other tokens: such arms are not compared.
#[test]
fn arms_with_other_tokens_are_refused_cpu() {
    let place = Place::new();
    place.write("book.jsonl", "{\"text\":\"all work and no play\",\"more\":\"makes jack a dull boy\"}\n".repeat(60));
    let other = |more: &str| format!("[[arm]]\nname = \"first\"\n[[arm]]\nname = \"second\"\n{more}");
    let refused = |base: &str, more: &str, parts: &[&str]| {
        write(&place, "[1]", 4, &format!("{base}\n{}", other(more)));
        study(&place, "out").refused(parts).refused(&["arm second: ", "arm first is evaluated on other windows"]);
        assert!(!place.path("out").exists());
    };
    let data = "[base.data]\ntrain = \"book.jsonl\"";
    let given = format!("{data}\nvalid = \"book.jsonl\"");
    refused(&given, "[arm.model]\nvocab_size = 300", &["model.vocab_size: expected 128, got 300"]);
    refused(&given, "[arm.data]\ntext_field = \"more\"", &["data.text_field", "\"text\"", "\"more\""]);
    let text = String::from_utf8(place.read("tiny.toml")).unwrap();
    place.write("tiny.toml", text.replace("vocab_size = 128", "vocab_size = 320"));
    refused(&given, "[arm.data]\ntokenizer = \"bytes\"", &["data.tokenizer: expected none, got \"bytes\""]);
    // A model that is started from brings its tokenizer.
    let bytes = "--data book.jsonl --tokenizer bytes --steps 1";
    place.train_tiny("from", bytes).succeeded();
    refused(&given, "[arm.model]\nfrom = \"from\"", &["model.from: expected none, got", "from"]);
    // The same tokens by another setting are the same.
    write(&place, "[1]", 1, &format!("{given}\n{}", other("[arm.data]\ntokenizer = \"bpe\"")));
    study(&place, "out").succeeded();
    // An arm that joins is compared with one that has ended.
    let more = "[arm.data]\ntokenizer = \"bpe\"\n[[arm]]\nname = \"third\"\n[arm.data]\ntokenizer = \"bytes\"";
    write(&place, "[1]", 1, &format!("{given}\n{}", other(more)));
    study(&place, "out").refused(&["arm third: data.tokenizer", "arm first"]);
}

#[test]
fn a_folder_of_something_else_is_no_studys_cpu() {
    let place = place("[1]", 1, ARMS);
    place.train_tiny("run", "").succeeded();
    let before = place.list("run");
    study(&place, "run").refused(&["study folder run", "or one of this study", "choose another --out"]);
    assert_eq!(place.list("run"), before);
    fs::create_dir(place.path("empty")).unwrap();
    study(&place, "empty").succeeded();
    // Its own, also before it has a report.
    fs::remove_file(place.path("empty/study.json")).unwrap();
    study(&place, "empty").succeeded();
}

#[test]
fn impossible_studies_are_refused_cpu() {
    let place = Place::new();
    let refused = |seeds: &str, arms: &str, parts: &[&str]| {
        write(&place, seeds, 4, arms);
        let finished = study(&place, "out");
        eprintln!("{}", finished.stderr().trim());
        finished.refused(parts);
        assert!(!place.path("out").exists());
    };
    for seeds in ["[]", "[1, 1]", "[-1]", "[1.5]", "3"] {
        refused(seeds, ARMS, &["study.seeds", "different integers", seeds.trim_matches(['[', ']'])]);
    }
    refused("[1]", "", &["arm", "at least one [[arm]]", "study.toml"]);
    refused("[1]", "[arm]\nname = \"a\"", &["arm", "at least one [[arm]]"]);
    refused("[1]", "[[arm]]\n", &["arm.name", "got none"]);
    refused("[1]", "[[arm]]\nname = \"--\"", &["arm.name", "\"--\""]);
    refused("[1]", "[[arm]]\nname = \"a\"\n[[arm]]\nname = \"a\"", &["arm.name", "no other arm", "\"a\""]);
    refused("[1]", "[[arm]]\nname = \"a b\"\n[[arm]]\nname = \"A-b\"", &["arm.name", "\"A-b\"", "a-b"]);
    let arm = |more: &str| format!("[[arm]]\nname = \"first\"\n[[arm]]\nname = \"second\"\n{more}");
    refused("[1]", &arm("[arm.optimizer]\nlrr = 1"), &["arm second", "optimizer.lrr", "optimizer.lr "]);
    refused("[1]", &arm("[arm.optimiser]\nlr = 1"), &["arm second", "optimiser", "optimizer"]);
    refused("[1]", &arm("[arm.optimizer]\nlr = -1"), &["arm second", "optimizer.lr", "-1"]);
    refused("[1]", &arm("[arm.train]\nseed = 4"), &["train.seed", "study.seeds", "arm second"]);
    refused("[1]", &arm("[arm.train]\nseq_len = 8"), &["arm second", "train.seq_len", "16", "8", "other windows"]);
    refused("[1]", &arm("[arm.train]\nseq_len = 64"), &["arm second", "train.seq_len", "64", "32"]);
    refused("[1]", &arm("[arm.model]\nnum_key_value_heads = 3"), &["arm second", "num_key_value_heads", "3"]);
    refused("[1]", &arm("[arm.data]\ntrain = \"gone.txt\"\nvalid = \"gone.txt\""), &["arm second", "data.valid"]);
    refused("[1]", &arm("[grid]\n\"optimizer.lr\" = 3"), &["grid.optimizer.lr", "list", "3"]);
    refused("[1]", &arm("[grid]\noptimizer.lr = [3]"), &["grid.optimizer", "section.key"]);
    refused("[1]", &arm("[grid]\n\"train.seed\" = [3]"), &["train.seed", "study.seeds", "[grid]"]);
    refused("[1]", &arm("[grids]\n\"train.steps\" = [3]"), &["grids", "no such section", "grid "]);
    place.write("study.toml", "[study]\nseeds = [1]\n[[arm]]\nname = \"a\"");
    study(&place, "out").refused(&["study.name", "got none"]);
    place.run("study --adapter cpu missing.toml").refused(&["missing.toml"]);
}
