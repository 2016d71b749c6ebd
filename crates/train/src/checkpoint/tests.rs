#![allow(clippy::unwrap_used)]

use evenkeel_model::{
    Arch,
    init::{Init, InitScheme, initialise},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::trainer_state::{Best, FORMAT_VERSION, Tokenizer};
use super::*;

/// A model small enough to save hundreds of times.
pub(super) fn tiny(tie_word_embeddings: bool) -> ModelConfig {
    ModelConfig {
        arch: Arch::Llama,
        vocab_size: 11,
        hidden_size: 8,
        intermediate_size: 10,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 4,
        max_position_embeddings: 16,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        tie_word_embeddings,
    }
}

/// Initial parameters of `config`.
pub(super) fn weights(config: &ModelConfig) -> Vec<Vec<f32>> {
    let init = Init { scheme: InitScheme::Normal, std: 0.02 };
    config.parameters().iter().map(|spec| initialise(spec, init, config.num_hidden_layers, 1)).collect()
}

/// `weights` as they go into a file, under their names with `suffix`.
pub(super) fn tensors<'a>(config: &ModelConfig, weights: &'a [Vec<f32>], suffix: &str) -> Vec<TensorRef<'a>> {
    config
        .parameters()
        .into_iter()
        .zip(weights)
        .map(|(spec, data)| TensorRef { name: format!("{}{suffix}", spec.name), shape: spec.shape, data })
        .collect()
}

fn trainer(step: u64) -> TrainerState {
    TrainerState {
        format_version: FORMAT_VERSION,
        engine_version: "0.1.0".into(),
        adapter: "cpu".into(),
        driver: "none".into(),
        backend: "cpu".into(),
        step,
        applied_steps: step - 1,
        data_position: step * 1024,
        seed: u64::MAX,
        tokenizer: Tokenizer::Bytes,
        data: Some("00".into()),
        batches: None,
        only_as_best: false,
        best: None,
    }
}

fn new_run() -> (TempDir, RunFolder) {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::create(&folder.path().join("run")).unwrap();
    run.write_run_file("").unwrap();
    (folder, run)
}

fn save_step(run: &RunFolder, step: u64) -> Result<PathBuf, CheckpointError> {
    save_state(run, &trainer(step))
}

fn save_state(run: &RunFolder, trainer: &TrainerState) -> Result<PathBuf, CheckpointError> {
    let config = tiny(false);
    let weights = weights(&config);
    let mut optimizer = tensors(&config, &weights, ".exp_avg");
    optimizer.push(TensorRef { name: "optimizer.state".into(), shape: vec![2], data: &[3.0, 0.5] });
    save(
        run,
        &CheckpointParts {
            config: &config,
            model: &tensors(&config, &weights, ""),
            tokenizer: None,
            optimizer: &optimizer,
            trainer,
        },
    )
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_checkpoint_reads_back_bit_for_bit() {
    let (_folder, run) = new_run();
    let path = save_step(&run, 7).unwrap();
    assert_eq!(path, run.checkpoints().join("step-000007"));
    assert_eq!(entries(&path), [CONFIG_FILE, MODEL_FILE, OPTIMIZER_FILE, TRAINER_FILE]);
    assert!(entries(&run.partial()).is_empty());

    let config = tiny(false);
    let weights = weights(&config);
    let mut loaded = load(&path).unwrap();
    assert_eq!(loaded.config, config);
    assert_eq!(loaded.parameters, weights);
    assert_eq!(loaded.trainer, trainer(7));
    for (spec, data) in config.parameters().iter().zip(&weights) {
        let name = format!("{}.exp_avg", spec.name);
        assert_eq!(loaded.optimizer.take(&name, &spec.shape).unwrap(), *data);
    }
    assert_eq!(loaded.optimizer.take("optimizer.state", &[2]).unwrap(), [3.0, 0.5]);
    loaded.optimizer.finish().unwrap();
}

#[test]
fn equal_state_gives_equal_bytes() {
    let ((_a, run), (_b, other)) = (new_run(), new_run());
    let (path, twin) = (save_step(&run, 7).unwrap(), save_step(&other, 7).unwrap());
    for name in entries(&path) {
        assert_eq!(fs::read(path.join(&name)).unwrap(), fs::read(twin.join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn optimizer_tensors_are_checked_when_taken() {
    let (_folder, run) = new_run();
    let path = save_step(&run, 1).unwrap();
    let mut stored = load(&path).unwrap().optimizer;
    let error = stored.take("optimizer.state", &[3]).unwrap_err().to_string();
    assert!(error.starts_with("tensor optimizer.state: expected shape [3], got [2]"), "{error}");
    let error = stored.take("x.exp_avg", &[1]).unwrap_err().to_string();
    assert!(error.contains("tensor x.exp_avg: expected shape [1], got no such tensor"), "{error}");
    let error = stored.finish().unwrap_err().to_string();
    assert!(error.starts_with("tensor lm_head.weight.exp_avg: expected no such tensor"), "{error}");
}

#[test]
fn the_newest_is_found_and_old_ones_are_pruned() {
    let (_folder, run) = new_run();
    assert_eq!(newest(&run).unwrap(), None);
    for step in [5, 1_234_567, 999_999, 10] {
        save_step(&run, step).unwrap();
    }
    for foreign in ["step-5", "step-0000007", "step-+00008", "step-99999999999999999999999", "best"] {
        fs::create_dir(run.checkpoints().join(foreign)).unwrap();
    }
    let expected = run.checkpoints().join("step-1234567");
    assert_eq!(newest(&run).unwrap(), Some((1_234_567, expected)));
    prune(&run, 0, None).unwrap();
    assert_eq!(list(&run.checkpoints()).unwrap().len(), 4);
    prune(&run, 2, None).unwrap();
    assert_eq!(list(&run.checkpoints()).unwrap().into_keys().collect::<Vec<_>>(), [999_999, 1_234_567]);
    prune(&run, 9, None).unwrap();
    assert_eq!(list(&run.checkpoints()).unwrap().len(), 2);
    assert!(run.checkpoints().join("best").exists());
    assert!(entries(&run.partial()).is_empty());
}

/// Where an old checkpoint cannot be moved away, it stays as it is: one that is removed file by file would be half there
/// after a kill.
#[test]
fn an_old_checkpoint_leaves_in_one_piece_or_not_at_all() {
    let (_folder, run) = new_run();
    let old = save_step(&run, 1).unwrap();
    save_step(&run, 2).unwrap();
    let before = entries(&old);
    fs::create_dir_all(run.partial().join("step-000001/in the way")).unwrap();
    let error = prune(&run, 1, None).unwrap_err().to_string();
    assert!(error.contains("cannot remove") && error.contains("step-000001"), "{error}");
    assert_eq!(entries(&old), before);
}

#[test]
fn the_best_stays_beside_the_newest_and_is_found() {
    let (_folder, run) = new_run();
    assert!(resolve(run.path()).unwrap_err().to_string().contains("expected a run with a checkpoint, got none"));
    let best_path = run.checkpoints().join("best");
    let save = |step, only_as_best, best: Option<u64>| {
        let best = best.map(|step| Best { step, valid_loss: 1.0 / 3.0 });
        save_state(&run, &TrainerState { only_as_best, best, ..trainer(step) }).unwrap();
        prune(&run, 2, best.map(|best| best.step)).unwrap();
        list(&run.checkpoints()).unwrap().into_keys().collect::<Vec<_>>()
    };
    assert_eq!(save(10, false, None), [10]);
    assert_eq!(resolve(run.path()).unwrap(), run.checkpoints().join("step-000010"));
    let error = resolve(&best_path).unwrap_err().to_string();
    assert!(error.contains("expected a checkpoint with a validation loss, got none"), "{error}");

    // One between those that are due counts for none of them, and goes when another is better.
    assert_eq!(save(15, true, Some(15)), [10, 15]);
    assert_eq!(save(20, false, Some(15)), [10, 15, 20]);
    for path in [run.path(), &best_path] {
        assert_eq!(resolve(path).unwrap(), run.checkpoints().join("step-000015"));
    }
    assert_eq!(save(25, true, Some(25)), [10, 20, 25]);
    assert_eq!(save(30, false, Some(30)), [20, 30]);
    // A due one stays as long as it is the best.
    assert_eq!(save(40, false, Some(30)), [30, 40]);
    assert_eq!(save(50, false, Some(30)), [30, 40, 50]);
    assert_eq!(save(55, true, Some(55)), [40, 50, 55]);
    let plain = run.checkpoints().join("step-000040");
    assert_eq!(resolve(&plain).unwrap(), plain);
    // Where the best one was taken away, the newest has to do.
    fs::remove_dir_all(run.checkpoints().join("step-000055")).unwrap();
    assert_eq!(resolve(run.path()).unwrap(), run.checkpoints().join("step-000050"));
}

#[test]
fn a_failing_write_leaves_nothing() {
    let (_folder, run) = new_run();
    let config = tiny(false);
    let weights = weights(&config);
    // The fault comes last: config and model are written by then.
    let optimizer = [TensorRef { name: "o".into(), shape: vec![2], data: &[1.0] }];
    let error = save(
        &run,
        &CheckpointParts {
            config: &config,
            model: &tensors(&config, &weights, ""),
            tokenizer: None,
            optimizer: &optimizer,
            trainer: &trainer(3),
        },
    )
    .unwrap_err()
    .to_string();
    assert!(error.starts_with("cannot write ") && error.contains(OPTIMIZER_FILE), "{error}");
    assert_eq!(error.lines().count(), 1);
    assert!(entries(&run.checkpoints()).is_empty() && entries(&run.partial()).is_empty());
    save_step(&run, 3).unwrap();
}

#[test]
fn an_existing_checkpoint_is_never_replaced() {
    let (_folder, run) = new_run();
    save_step(&run, 3).unwrap();
    let error = save_step(&run, 3).unwrap_err().to_string();
    assert!(error.contains("step-000003: expected a new checkpoint"), "{error}");
    load(&run.checkpoints().join("step-000003")).unwrap();
}

#[test]
fn a_kill_between_any_two_files_leaves_no_checkpoint() {
    let (_folder, run) = new_run();
    let complete = save_step(&run, 3).unwrap();
    let partial = run.partial().join("step-000003");
    let path = run.path().to_owned();
    drop(run);
    for files in 0..=4 {
        // Files are written in the order of their names.
        fs::create_dir_all(&partial).unwrap();
        for name in entries(&complete).into_iter().take(files) {
            fs::copy(complete.join(&name), partial.join(&name)).unwrap();
        }
        let run = RunFolder::open(&path).unwrap();
        assert_eq!(entries(&run.checkpoints()), ["step-000003"]);
        assert!(entries(&run.partial()).is_empty());
    }
}

#[test]
fn trainer_states_of_another_format_are_refused() {
    let (_folder, run) = new_run();
    let path = save_step(&run, 1).unwrap().join(TRAINER_FILE);
    let good: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(good["tokenizer"], "bytes");
    for (key, value, message) in [
        ("format_version", json!(2), "expected format_version 1, got 2"),
        ("format_version", json!(null), "expected format_version 1, got null"),
        ("format_version", json!("1"), "expected format_version 1, got \"1\""),
        ("step", json!(-1), "expected a trainer state in JSON, got invalid value"),
        ("tokenizer", json!("bpe"), "expected a trainer state in JSON, got unknown variant `bpe`"),
    ] {
        let mut changed = good.clone();
        changed[key] = value;
        fs::write(&path, changed.to_string()).unwrap();
        let error = TrainerState::read(&path).unwrap_err().to_string();
        assert!(error.contains(message) && error.contains(TRAINER_FILE), "{error}");
    }
    for text in ["", "{", "[]", "\u{0}"] {
        fs::write(&path, text).unwrap();
        let error = TrainerState::read(&path).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_checkpoint_with_a_broken_part_does_not_load() {
    let (_folder, run) = new_run();
    let path = save_step(&run, 1).unwrap();
    for name in entries(&path) {
        let good = fs::read(path.join(&name)).unwrap();
        fs::write(path.join(&name), &good[..good.len() / 2]).unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains(&name), "{error}");
        fs::remove_file(path.join(&name)).unwrap();
        assert!(load(&path).is_err(), "{name}");
        fs::write(path.join(&name), &good).unwrap();
    }
    load(&path).unwrap();
}
