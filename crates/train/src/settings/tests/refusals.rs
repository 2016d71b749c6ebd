//! Bad input: each gives one line with name, what is expected, what was given, and where.

use super::*;

/// The message of the error that `set` gives; it is one line.
fn error(set: &[&str]) -> String {
    error_of(&with_set(set))
}

fn error_of(sources: &Sources) -> String {
    let message = Settings::resolve(sources).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn file_error(text: impl AsRef<[u8]>) -> String {
    let (_folder, path) = run_file(text);
    let message = Settings::from_run_file(&path).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    message.replace(path.to_str().unwrap(), "FILE")
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    assert_eq!(error(&["train.stepz=5"]), "train.stepz: no such key, the nearest is train.steps (--set)");
    assert!(error(&["model.lr=5"]).contains("the nearest is optimizer.lr"));
    assert!(error(&["optimiser.lr=5"]).contains("the nearest is optimizer.lr"));
    assert!(error(&["steps=5"]).contains("steps: no such key, the nearest is train.steps"));
    assert!(error(&["train.steps.x=5"]).contains("train.steps.x: no such key, the nearest is train.steps"));
    assert_eq!(file_error("[optimiser]\nlr = 1\n"), "optimiser: no such section, the nearest is optimizer (FILE)");
    assert!(file_error("[train]\nbatchsize = 1\n").contains("the nearest is train.batch_size"));
    assert!(file_error("steps = 1\n").contains("the nearest is train.steps"));
    assert!(file_error("\"a\\nb\" = 1\n").starts_with(r"a\nb: no such key"));
    assert_eq!(file_error("train = 5\n"), "train: expected a section, got 5 (FILE)");
    assert!(error(&["train.steps"]).contains("expected section.key=value, got \"train.steps\""));
    assert!(error(&[" = 5"]).contains("expected section.key=value, got \" = 5\""));
}

#[test]
fn wrong_types_name_key_type_and_value() {
    assert_eq!(error(&["train.steps=many"]), "train.steps: expected integer >= 1, got \"many\" (--set)");
    assert_eq!(file_error("[train]\nbatch_size = 1.5\n"), "train.batch_size: expected u32 >= 1, got 1.5 (FILE)");
    assert!(error(&["optimizer.lr='0.1'"]).contains("expected finite f32 >= 0, got \"0.1\""));
    assert!(error(&["model.tie_word_embeddings=1"]).contains("expected true or false, got 1"));
    assert!(error(&["data.train=2024"]).contains("expected path or list of paths, got 2024"));
    assert!(error(&["model.from=[]"]).contains("expected path, got []"));
    let kinds = "\"constant\" or \"linear\" or \"cosine\" or \"wsd\"";
    assert!(error(&["schedule.kind=step"]).contains(&format!("expected {kinds}, got \"step\"")));
    let schemes =
        "\"normal\" or \"lir\" or \"gpt2_residual\" or \"variance_preserving\" or \"lir_variance_preserving\"";
    assert_eq!(error(&["init.scheme=xavier"]), format!("init.scheme: expected {schemes}, got \"xavier\" (--set)"));
    assert!(error(&["model.arch=mamba"]).contains("expected \"llama\" or \"kat\", got \"mamba\""));
    let form = error(&["model.arch=kat", "model.rational_form=pade"]);
    assert!(form.contains("expected \"abs_sum\" or \"sum_abs\", got \"pade\""), "{form}");
    let sets = error(&["model.arch=kat", "model.rational_init=['swish']"]);
    assert!(sets.contains("expected list of 2, each \"identity\" or \"swish\" or"), "{sets}");
    assert!(sets.ends_with("got [\"swish\"] (--set)"), "{sets}");
    assert!(error(&["tvr.exclude=o_proj"]).contains("expected list of strings, got \"o_proj\""));
    assert!(error(&["model.preset=xl"]).contains("expected \"nano\" or \"s\" or \"m\" or \"l\", got \"xl\""));
    assert!(error(&["data.order=\"shuffled"]).contains("data.order: expected \"shuffled\" or \"sequential\", got"));
    assert!(file_error("[train]\nsteps = { a = 1 }\n").contains("got a table"));
    assert!(file_error("[data]\norder = \"\"\"a\nb\"\"\"\n").contains(r#"got "a\nb""#));
}

#[test]
fn keys_of_a_kat_need_one() {
    let expected = "model.rational_groups: expected no value where model.arch is not \"kat\", got 8 (--set)";
    assert_eq!(error(&["model.rational_groups=8"]), expected);
    assert_eq!(error(&["model.arch=kat", "model.arch=llama", "model.rational_groups=8"]), expected);
}

#[test]
fn numbers_out_of_range_are_refused() {
    let hyper_parameters = [
        ("optimizer.lr", ["nan", "inf", "-1e-9", "1e39"]),
        ("optimizer.beta1", ["nan", "-0.1", "1", "0.99999999999"]),
        ("optimizer.beta2", ["nan", "-0.1", "1.0", "2"]),
        ("optimizer.eps", ["nan", "inf", "0", "1e-50"]),
        ("optimizer.weight_decay", ["nan", "inf", "-0.1", "-1"]),
        ("optimizer.grad_clip", ["nan", "inf", "-inf", "-1"]),
        ("schedule.min_lr_ratio", ["nan", "-0.1", "1.1", "2"]),
        ("init.std", ["nan", "inf", "-0.02", "-1"]),
        ("tvr.target_std", ["nan", "inf", "0", "-0.01"]),
        ("tvr.interval", ["0", "-1", "0.5", "x"]),
        ("tvr.threshold", ["nan", "inf", "0.99", "0"]),
        ("instruments.interval", ["-1", "0.5", "x", "inf"]),
        ("model.rms_norm_eps", ["nan", "inf", "0", "-1e-5"]),
        ("model.rope_theta", ["nan", "inf", "0", "-1e4"]),
        ("train.batch_size", ["0", "-1", "4294967296", "1e3"]),
        ("train.seq_len", ["0", "-1", "4294967296", "true"]),
        ("train.grad_accumulation", ["0", "-1", "4294967296", "x"]),
        ("train.steps", ["0", "-1", "9223372036854775808", "0.5"]),
        ("train.seed", ["-1", "9223372036854775808", "0.5", "x"]),
        ("train.eval_every", ["-1", "0.5", "x", "inf"]),
        ("train.checkpoint_every", ["-1", "0.5", "x", "inf"]),
        ("train.keep_checkpoints", ["-1", "0.5", "x", "inf"]),
        ("schedule.warmup_steps", ["-1", "0.5", "x", "inf"]),
        ("schedule.decay_steps", ["-1", "0.5", "x", "inf"]),
    ];
    for (key, values) in hyper_parameters {
        for value in values {
            let message = error(&[&format!("{key}={value}")]);
            assert!(message.starts_with(&format!("{key}: expected ")), "{message}");
        }
    }
    for size in ["hidden_size", "num_hidden_layers", "num_key_value_heads", "vocab_size", "head_dim"] {
        assert!(error(&[&format!("model.{size}=0")]).contains("expected u32 >= 1, got 0"));
    }
}

#[test]
fn a_replaced_value_is_still_checked() {
    let mut sources = with_set(&["train.steps=none"]);
    sources.flags.steps = Some(5);
    assert!(error_of(&sources).contains("train.steps: expected integer >= 1, got \"none\" (--set)"));
    sources.set = vec!["train.stepz=5".into()];
    assert!(error_of(&sources).contains("train.stepz: no such key"));
    sources.set.clear();
    sources.flags.steps = Some(0);
    assert!(error_of(&sources).contains("train.steps: expected integer >= 1, got 0 (--steps)"));
}

#[test]
fn a_checkpoint_stands_alone_in_its_layer_and_above() {
    for beside in ["model.preset=s", "model.vocab_size=256", "init.std=0.1"] {
        let message = error(&["model.from=x", beside]);
        let key = beside.split_once('=').unwrap().0;
        assert!(message.starts_with(&format!("{key}: expected no value beside model.from")), "{message}");
    }
    let mut sources = with_set(&["model.from=x"]);
    sources.flags.preset = Some("s".into());
    assert!(error_of(&sources).contains("got \"s\" (--preset)"));
    assert!(file_error("[model]\nfrom = 'x'\n[init]\nstd = 1\n").contains("init.std: expected no value"));
}

#[test]
fn sequences_fit_the_positions_and_steps_fit_u32() {
    assert_eq!(
        error(&["train.seq_len=129"]),
        "train.seq_len: expected at most the 128 of model.max_position_embeddings, got 129 \
         (lower it, or raise model.max_position_embeddings)"
    );
    resolve(&["train.seq_len=129", "model.max_position_embeddings=129"]);
    resolve(&["train.batch_size=33554431"]);
    let message = error(&["train.batch_size=33554432"]);
    assert!(message.starts_with("train.batch_size: expected at most 4294967295 tokens per step, got 4294967296"));
    let largest = "4294967295";
    let message = error(&[
        &format!("train.batch_size={largest}"),
        &format!("train.grad_accumulation={largest}"),
        &format!("train.seq_len={largest}"),
        &format!("model.max_position_embeddings={largest}"),
    ]);
    assert!(message.contains("79228162458924105385300197375"), "{message}");
}

#[test]
fn a_decay_has_room_after_the_warm_up() {
    let set = ["schedule.kind=wsd", "train.steps=10", "schedule.warmup_steps=3", "schedule.decay_steps=8"];
    assert_eq!(
        error(&set),
        "schedule.decay_steps: expected at most the 7 steps after the warm-up, got 8 \
         (lower it, or schedule.warmup_steps)"
    );
    resolve(&set[1..]);
    resolve(&[set[0], set[1], set[2], "schedule.decay_steps=7"]);
}

#[test]
fn unreadable_run_files_are_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.toml");
    for path in [missing.as_path(), folder.path()] {
        let message = Settings::from_run_file(path).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{}: cannot be read: ", path.display())), "{message}");
        assert_eq!(message.lines().count(), 1);
    }
    assert_eq!(file_error(b"[train]\n# \xff\n"), "FILE: expected UTF-8 text, got another byte at offset 10");
    assert!(file_error("[train]\nsteps = 5\nseed = = 1\n").starts_with("FILE: line 3: not TOML: "));
    assert!(file_error("[train]\nsteps = 5\nsteps = 6\n").starts_with("FILE: line 3: not TOML: "));
    assert!(file_error("[train\n").starts_with("FILE: line 1: not TOML: "));
    let (_folder, empty) = run_file("");
    assert_eq!(Settings::from_run_file(&empty).unwrap(), resolve(&[]));
}

#[test]
fn paths_are_strings_that_are_not_empty() {
    assert!(error(&["data.train="]).contains("data.train: expected path or list of paths, got \"\" (--set)"));
    assert!(error(&["data.train=['']"]).contains("got [\"\"]"));
    assert!(error(&["data.train=['a', 1]"]).contains("got [\"a\", 1]"));
}

#[test]
fn a_head_size_that_is_not_an_integer_is_asked_for() {
    assert_eq!(
        error(&["model.hidden_size=97"]),
        "model.head_dim: expected a value, as its default is not an integer, got none \
         (hidden_size / num_attention_heads)"
    );
}
