#![allow(clippy::unwrap_used)]

mod refusals;

use std::fs;

use super::key::Fallback;
use super::keys::KEYS;
use evenkeel_model::init::InitScheme;

use super::*;

fn with_set(set: &[&str]) -> Sources {
    Sources { set: set.iter().map(|&text| text.to_owned()).collect(), ..Sources::default() }
}

fn resolve(set: &[&str]) -> Settings {
    Settings::resolve(&with_set(set)).unwrap()
}

/// A run file with this text, and the folder that holds it.
fn run_file(text: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run file.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn absolute(path: &str) -> PathBuf {
    std::env::current_dir().unwrap().join(path)
}

#[test]
fn defaults_are_those_of_the_issue() {
    let settings = resolve(&[]);
    let ModelSettings { preset, ref from, hidden_size, head_dim, max_position_embeddings, .. } = settings.model;
    assert_eq!((preset, from), (Some(PresetName::Nano), &None));
    assert_eq!((hidden_size, head_dim, max_position_embeddings), (Some(128), Some(32), Some(128)));
    assert_eq!(settings.data.train, Vec::<PathBuf>::new());
    assert_eq!(settings.data.order, Order::Shuffled);
    assert_eq!((settings.train.seq_len, settings.train.batch_size), (128, 8));
    assert_eq!(settings.schedule.kind, ScheduleKind::Cosine);
    assert_eq!(settings.init.unwrap().scheme, InitScheme::Normal);
}

/// The rows of the issue: hidden, intermediate, layers, heads, kv heads, vocab, seq, batch.
#[test]
fn presets_set_shape_sequence_and_batch() {
    let rows = [
        ("nano", [128, 352, 4, 4, 2, 512, 128, 8]),
        ("s", [256, 688, 6, 8, 4, 2048, 256, 8]),
        ("m", [512, 1376, 8, 8, 4, 8192, 512, 8]),
        ("l", [768, 2048, 12, 12, 12, 32000, 1024, 16]),
    ];
    assert_eq!(presets().count(), rows.len());
    for (name, row) in rows {
        let Settings { model, train, .. } = resolve(&[&format!("model.preset={name}")]);
        let fields = [
            model.hidden_size,
            model.intermediate_size,
            model.num_hidden_layers,
            model.num_attention_heads,
            model.num_key_value_heads,
            model.vocab_size,
            Some(train.seq_len),
            Some(train.batch_size),
        ];
        assert_eq!(fields, row.map(Some), "{name}");
        assert_eq!(model.max_position_embeddings, Some(train.seq_len));
        assert_eq!(model.preset.unwrap().name(), name);
    }
}

#[test]
fn presets_set_the_keys_that_say_so() {
    let mut set_by_presets = Preset::of(PresetName::Nano).values().map(|(name, _)| name.to_owned());
    let mut default_to_presets: Vec<_> =
        KEYS.iter().filter(|key| matches!(key.default, Fallback::Preset)).map(super::key::Key::full_name).collect();
    set_by_presets.sort();
    default_to_presets.sort();
    assert_eq!(set_by_presets[..], default_to_presets[..]);
}

#[test]
fn each_layer_is_over_the_one_before() {
    let (_folder, path) =
        run_file("[model]\npreset = 's'\nhidden_size = 320\n[train]\nsteps = 11\nseed = 21\nbatch_size = 31\n");
    let mut sources = Sources { file: Some(path), ..Sources::default() };
    let file = Settings::resolve(&sources).unwrap();
    assert_eq!((file.train.steps, file.train.seed, file.train.batch_size), (11, 21, 31));
    assert_eq!((file.model.hidden_size, file.model.num_hidden_layers), (Some(320), Some(6)));
    assert_eq!(file.train.seq_len, 256);

    sources.set = vec!["train.steps=12".into(), "train.seed=22".into(), "train.seed=23".into()];
    let set = Settings::resolve(&sources).unwrap();
    assert_eq!((set.train.steps, set.train.seed, set.train.batch_size), (12, 23, 31));

    sources.flags = Flags {
        preset: Some("m".into()),
        data: vec!["a.txt".into(), "b.txt".into()],
        valid: vec!["c.txt".into()],
        steps: Some(13),
        ..Flags::default()
    };
    let flags = Settings::resolve(&sources).unwrap();
    assert_eq!((flags.train.steps, flags.train.seed, flags.train.batch_size), (13, 23, 31));
    assert_eq!((flags.model.hidden_size, flags.model.num_hidden_layers), (Some(320), Some(8)));
    assert_eq!(flags.train.seq_len, 512);
    assert_eq!(flags.data.train, [absolute("a.txt"), absolute("b.txt")]);
    assert_eq!(flags.data.valid, [absolute("c.txt")]);
}

#[test]
fn the_resolved_run_file_has_every_key_and_gives_the_same_settings() {
    let cases = [
        resolve(&[]),
        resolve(&[
            "model.preset=l",
            "model.head_dim=48",
            "data.train=['a b.txt', 'c\"d.bin']",
            "data.order=sequential",
            "optimizer.lr=0.1234567890123456789",
            "optimizer.eps=1e-30",
            "schedule.warmup_steps=7",
            "schedule.kind=wsd",
            "schedule.decay_steps=50",
            "train.seed=9223372036854775807",
        ]),
        resolve(&["model.arch=kat", "model.rational_groups=4", "tvr.enabled=true", "tvr.exclude=['o_proj', 'a\"b']"]),
        resolve(&["model.from=runs/x", "data.valid=v.txt"]),
    ];
    for settings in cases {
        let text = settings.to_toml().unwrap();
        let written: toml::Table = text.parse().unwrap();
        for key in KEYS {
            let replaced = key.section == "init" || key.section == "model" && !["from", "freeze"].contains(&key.name);
            let present = written.get(key.section).is_some_and(|section| section.get(key.name).is_some());
            let of_a_kat = matches!(key.default, Fallback::Kat(_)) && settings.model.arch != Some(Arch::Kat);
            let expected = if settings.model.from.is_some() { !replaced } else { key.name != "from" && !of_a_kat };
            // Nobody named a tokenizer.
            assert_eq!(present, expected && key.name != "tokenizer", "{} in\n{text}", key.full_name());
        }
        let (_folder, path) = run_file(&text);
        assert_eq!(Settings::from_run_file(&path).unwrap(), settings);
    }
}

#[test]
fn paths_become_absolute() {
    let settings = resolve(&["data.train=./runs/a.txt", "data.valid=/a/b.txt"]);
    assert!(settings.data.train[0].is_absolute());
    assert!(settings.data.train[0].ends_with("runs/a.txt"));
    assert_eq!(settings.data.valid, [std::path::absolute("/a/b.txt").unwrap()]);
    assert_eq!(resolve(&[r"data.train=C:\x.txt"]).data.train, [std::path::absolute(r"C:\x.txt").unwrap()]);
    assert_eq!(resolve(&["data.train='a.txt'"]).data.train, [absolute("a.txt")]);
    assert_eq!(resolve(&["data.train=a=b.txt"]).data.train, [absolute("a=b.txt")]);
}

#[test]
fn numbers_at_their_bounds_are_accepted() {
    let settings = resolve(&[
        "optimizer.lr=0",
        "optimizer.beta1=0",
        "optimizer.beta2=0.0",
        "optimizer.weight_decay=0",
        "optimizer.grad_clip=0",
        "schedule.min_lr_ratio=1",
        "init.std=0",
        "train.eval_every=0",
        "train.checkpoint_every=0",
        "train.keep_checkpoints=0",
        "train.steps=1",
        "train.seq_len=1",
        "train.batch_size=1",
    ]);
    assert_eq!((settings.optimizer.lr, settings.schedule.min_lr_ratio), (0.0, 1.0));
    assert_eq!((settings.train.eval_every, settings.train.steps), (0, 1));
}

#[test]
fn a_checkpoint_replaces_lower_layers_of_model_and_init() {
    let (_folder, path) = run_file("[model]\npreset = 'l'\nvocab_size = 7\n[init]\nstd = 0.5\n[train]\nsteps = 5\n");
    let mut sources = with_set(&["model.from=runs/x/checkpoints/step-000005"]);
    sources.file = Some(path);
    let settings = Settings::resolve(&sources).unwrap();
    let only_from = ModelSettings {
        from: Some(absolute("runs/x/checkpoints/step-000005")),
        freeze: Vec::new(),
        preset: None,
        arch: None,
        hidden_size: None,
        intermediate_size: None,
        num_hidden_layers: None,
        num_attention_heads: None,
        num_key_value_heads: None,
        head_dim: None,
        vocab_size: None,
        max_position_embeddings: None,
        rms_norm_eps: None,
        rope_theta: None,
        tie_word_embeddings: None,
        rational_groups: None,
        rational_form: None,
        rational_init: None,
        rational_shared_numerator: None,
    };
    assert_eq!((settings.model.clone(), settings.init.clone()), (only_from, None));
    assert_eq!((settings.train.steps, settings.train.seq_len, settings.train.batch_size), (5, 128, 8));
    assert_eq!(settings.model_config_json(), None);
    // The limit of the positions is the checkpoint's, unknown here.
    resolve(&["model.from=x", "train.seq_len=4096"]);
}

#[test]
fn derived_defaults_follow_what_they_depend_on() {
    assert_eq!(resolve(&["train.steps=9"]).schedule.warmup_steps, 0);
    assert_eq!(resolve(&["train.steps=60"]).schedule.warmup_steps, 6);
    assert_eq!(resolve(&["train.steps=5000"]).schedule.warmup_steps, 100);
    assert_eq!(resolve(&["schedule.warmup_steps=90"]).schedule.warmup_steps, 90);
    assert_eq!(resolve(&["train.steps=60"]).schedule.decay_steps, 12);
    assert_eq!(resolve(&["train.steps=10", "schedule.warmup_steps=9"]).schedule.decay_steps, 1);
    assert_eq!(resolve(&["train.steps=10", "schedule.warmup_steps=11"]).schedule.decay_steps, 0);
    assert_eq!(resolve(&["model.hidden_size=96"]).model.head_dim, Some(24));
    assert_eq!(resolve(&["model.hidden_size=97", "model.head_dim=8"]).model.head_dim, Some(8));
}

#[test]
fn the_model_is_handed_over_as_hugging_face_config() {
    let config = resolve(&["model.rope_theta=500000", "model.tie_word_embeddings=true"]).model_config_json().unwrap();
    let expected = json!({
        "model_type": "llama", "hidden_act": "silu",
        "attention_bias": false, "mlp_bias": false, "torch_dtype": "float32",
        "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 512, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": true,
    });
    assert_eq!(config, expected);
}

#[test]
fn a_kat_has_as_many_weights_as_the_preset_and_keys_of_its_own() {
    for (preset, width) in [("nano", 528), ("s", 1032), ("m", 2064), ("l", 3072)] {
        let settings = resolve(&[&format!("model.preset={preset}"), "model.arch=kat"]);
        assert_eq!(settings.model.intermediate_size, Some(width), "{preset}");
    }
    let width = |set: &[&str]| resolve(set).model.intermediate_size;
    assert_eq!(width(&["model.arch=kat", "model.rational_groups=32"]), Some(512));
    assert_eq!(width(&["model.arch=kat", "model.intermediate_size=352"]), Some(352));

    let set = ["model.arch=kat", "model.rational_form=sum_abs", "model.rational_init=['identity', 'gelu_old']"];
    let config = resolve(&set).model_config_json().unwrap();
    assert_eq!(config["model_type"], "kat");
    assert_eq!((&config["rational_groups"], &config["rational_form"]), (&json!(8), &json!("sum_abs")));
    assert_eq!(config["rational_init"], json!(["identity", "gelu_old"]));
    let config = resolve(&[]).model_config_json().unwrap();
    assert!(config.as_object().unwrap().keys().all(|key| !key.starts_with("rational")), "{config}");
}

#[test]
fn variance_control_has_the_defaults_of_its_authors() {
    let tvr = resolve(&[]).tvr;
    assert_eq!((tvr.enabled, tvr.target_std, tvr.interval, tvr.threshold), (false, 0.01, 50, 1.2));
    assert_eq!((tvr.depth_scaled, tvr.exclude), (false, Vec::<String>::new()));
    let set = resolve(&["tvr.enabled=true", "tvr.exclude=['o_proj', 'layers.0']", "init.scheme=lir"]);
    assert_eq!(set.tvr.exclude, ["o_proj", "layers.0"]);
    assert_eq!(set.init.unwrap().scheme, InitScheme::Lir);
}

#[test]
fn novograd_has_the_defaults_of_its_authors() {
    let of = |set: &[&str]| {
        let OptimizerSettings { lr, beta1, beta2, eps, weight_decay, .. } = resolve(set).optimizer;
        [lr, beta1, beta2, eps, weight_decay]
    };
    assert_eq!(of(&["optimizer.kind=novograd"]), [0.01, 0.95, 0.98, 1e-8, 0.001]);
    assert_eq!(of(&["optimizer.kind=adamw"]), [2e-3, 0.9, 0.95, 1e-8, 0.1]);
    assert_eq!(of(&["optimizer.beta1=0.5", "optimizer.kind=novograd"])[1], 0.5);
}

#[test]
fn what_is_frozen_is_no_part_of_the_shape() {
    let freeze = "model.freeze=['model.embed_tokens', 'layers.0']";
    let settings = resolve(&["model.from=x", freeze]);
    assert_eq!(settings.model.freeze, ["model.embed_tokens", "layers.0"]);
    let config = resolve(&[freeze]).model_config_json().unwrap();
    assert_eq!(config, resolve(&[]).model_config_json().unwrap());
}

#[test]
fn the_key_table_has_a_row_per_key() {
    let table = key_table();
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    assert_eq!(rows.len(), KEYS.len() + 2, "{table}");
    assert!(rows.iter().all(|row| row.len() == 4), "{table}");
    assert_eq!(rows[0], ["key", "value", "default", "meaning"]);
    assert!(rows.contains(&vec![
        "optimizer.beta1",
        "finite f32 >= 0 and < 1",
        "0.9, novograd: 0.95",
        "Decay of the first moment"
    ]));
    assert!(rows.contains(&vec![
        "model.from",
        "path",
        "none",
        "Checkpoint folder to start from, in place of all other keys of model and init"
    ]));
}

#[test]
fn recipes_resolve() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/runs");
    let mut recipes = 0;
    for file in fs::read_dir(folder).unwrap() {
        Settings::from_run_file(&file.unwrap().path()).unwrap();
        recipes += 1;
    }
    assert!(recipes > 0);
}
