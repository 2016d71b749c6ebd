//! Settings that are refused before anything is written.

use crate::place::Place;

/// Refuses `pretrain` with each `--set`, naming key and value.
fn refused(sets: &[(&str, &[&str])]) {
    let place = Place::new();
    for (set, parts) in sets {
        let arguments = ["pretrain", "--adapter", "cpu", "--config", "tiny.toml", "--out", "run", "--set", set];
        let finished = crate::place::Finished::of(place.command(arguments));
        eprintln!("{set}: {}", finished.stderr().trim());
        finished.refused(parts);
        assert_eq!(place.list("."), ["tiny.toml"]);
    }
}

#[test]
fn unknown_keys_are_answered_by_the_nearest_cpu() {
    refused(&[
        ("optimizer.lrr=1", &["optimizer.lrr", "optimizer.lr ", "--set"]),
        ("trian.steps=1", &["trian.steps", "train.steps"]),
        ("model.hiden_size=8", &["model.hiden_size", "model.hidden_size"]),
        ("steps=1", &["steps"]),
        ("nothing", &["nothing", "section.key=value"]),
    ]);
}

#[test]
fn values_of_wrong_types_and_sizes_are_refused_cpu() {
    refused(&[
        ("train.steps=1.5", &["train.steps", "1.5"]),
        ("train.steps=many", &["train.steps", "many"]),
        ("train.steps=0", &["train.steps", "0"]),
        ("train.batch_size=0", &["train.batch_size", "0"]),
        ("train.batch_size=4294967296", &["train.batch_size", "4294967296"]),
        ("train.grad_accumulation=0", &["train.grad_accumulation", "0"]),
        ("train.seq_len=0", &["train.seq_len", "0"]),
        ("train.seed=-1", &["train.seed", "-1"]),
        ("train.checkpoint_every=true", &["train.checkpoint_every", "true"]),
        ("model.tie_word_embeddings=1", &["model.tie_word_embeddings", "1"]),
        ("model.preset=huge", &["model.preset", "huge", "nano"]),
        ("data.order=sorted", &["data.order", "sorted"]),
        ("data.train=[1]", &["data.train", "1"]),
        ("schedule.kind=stairs", &["schedule.kind", "stairs"]),
    ]);
}

#[test]
fn impossible_kats_and_variance_control_are_refused_cpu() {
    refused(&[
        ("init.scheme=kaiming", &["init.scheme", "kaiming", "lir"]),
        ("tvr.target_std=0", &["tvr.target_std", "> 0", "got 0"]),
        ("tvr.target_std=-0.01", &["tvr.target_std", "-0.01"]),
        ("tvr.interval=0", &["tvr.interval", ">= 1", "got 0"]),
        ("tvr.threshold=0.5", &["tvr.threshold", "0.5"]),
        ("instruments.interval=-1", &["instruments.interval", "-1"]),
        ("model.arch=rnn", &["model.arch", "rnn", "kat"]),
        ("model.rational_groups=2", &["model.rational_groups", "kat"]),
    ]);
}

/// Of settings that only make sense together.
#[test]
fn impossible_kats_are_refused_by_name_cpu() {
    let place = Place::new();
    let kat = "pretrain --adapter cpu --config tiny.toml --out run --set model.arch=kat --set";
    place.run(&format!("{kat} model.rational_groups=5")).refused(&["rational_groups", "hidden_size", "got 5"]);
    place.run(&format!("{kat} model.rational_form=pade")).refused(&["rational_form", "abs_sum", "pade"]);
    let relu = "model.rational_init=['identity','relu']";
    place.run(&format!("{kat} model.rational_groups=2 --set {relu}")).refused(&["rational_init", "abs_sum", "relu"]);
    let tvr = "pretrain --adapter cpu --config tiny.toml --out run --set tvr.enabled=true --set";
    place.run(&format!("{tvr} tvr.exclude=['o']")).refused(&["tvr.exclude", "\"o\""]);
    assert_eq!(place.list("."), ["tiny.toml"]);
}

#[test]
fn negative_and_non_finite_hyper_parameters_are_refused_cpu() {
    refused(&[
        ("optimizer.lr=-1e-3", &["optimizer.lr", "-0.001"]),
        ("optimizer.lr=nan", &["optimizer.lr", "nan"]),
        ("optimizer.lr=inf", &["optimizer.lr", "inf"]),
        ("optimizer.lr=1e39", &["optimizer.lr"]),
        ("optimizer.beta1=1.0", &["optimizer.beta1", "1.0"]),
        ("optimizer.beta2=-0.5", &["optimizer.beta2", "-0.5"]),
        ("optimizer.eps=0", &["optimizer.eps", "0"]),
        ("optimizer.weight_decay=-1", &["optimizer.weight_decay", "-1"]),
        ("optimizer.grad_clip=-inf", &["optimizer.grad_clip", "-inf"]),
        ("schedule.min_lr_ratio=2", &["schedule.min_lr_ratio", "2"]),
        ("schedule.warmup_steps=-1", &["schedule.warmup_steps", "-1"]),
        ("init.std=-0.1", &["init.std", "-0.1"]),
        ("init.std=nan", &["init.std", "nan"]),
    ]);
}

#[test]
fn impossible_models_are_refused_cpu() {
    refused(&[
        ("model.num_key_value_heads=3", &["num_key_value_heads", "3", "num_attention_heads 2"]),
        ("model.num_attention_heads=0", &["num_attention_heads", "0"]),
        ("model.num_attention_heads=3", &["head_dim"]),
        ("model.head_dim=7", &["head_dim", "7"]),
        ("model.hidden_size=0", &["hidden_size", "0"]),
        ("model.vocab_size=0", &["vocab_size", "0"]),
        ("model.num_hidden_layers=0", &["num_hidden_layers", "0"]),
        ("model.rms_norm_eps=-1", &["rms_norm_eps", "-1"]),
        ("model.rope_theta=nan", &["rope_theta", "nan"]),
        ("train.seq_len=33", &["train.seq_len", "33", "max_position_embeddings", "32"]),
    ]);
}

#[test]
fn wrong_run_files_are_refused_cpu() {
    let place = Place::new();
    place.write("cut.toml", "[train\nsteps = 1");
    place.write("unknown.toml", "[train]\nstep = 1");
    place.write("type.toml", "[train]\nsteps = \"one\"");
    place.write("bytes.toml", [0xff, 0xfe]);
    let refused = |file: &str, parts: &[&str]| {
        place.run(&format!("pretrain --adapter cpu --config {file} --out run")).refused(parts);
    };
    refused("missing.toml", &["missing.toml"]);
    refused(".", &["directory"]);
    refused("cut.toml", &["cut.toml", "line 1"]);
    refused("unknown.toml", &["train.step:", "train.steps", "unknown.toml"]);
    refused("type.toml", &["train.steps", "one", "type.toml"]);
    refused("bytes.toml", &["bytes.toml"]);
    // Also where something else replaces it.
    place.run("pretrain --adapter cpu --config type.toml --steps 1 --out run").refused(&["train.steps", "type.toml"]);
    assert!(!place.path("run").exists());
}

#[test]
fn wrong_command_lines_are_refused_cpu() {
    let place = Place::new();
    let refused = |arguments: &str, part: &str| {
        let finished = place.run(arguments);
        assert!(finished.stderr().starts_with("error:") && finished.stderr().contains(part), "{}", finished.stderr());
    };
    refused("pretrain --nonsense", "--nonsense");
    refused("pretrian", "pretrain");
    refused("pretrain --resume run --steps 3", "--resume");
    refused("pretrain --steps many", "many");
    refused("pretrain --adapter cpu --steps -3", "-3");
    refused("generate --adapter cpu --model . --prompt a --temperature=-1", "--temperature");
    refused("eval --data tiny.toml --seq-len 4", "--model");
    assert_eq!(place.list("."), ["tiny.toml"]);
}
