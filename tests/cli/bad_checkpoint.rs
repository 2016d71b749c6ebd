//! Model folders and checkpoints that are refused.

use std::fs;

use serde_json::{Value, json};

use crate::place::Place;

const GOOD: &str = "run/checkpoints/step-000004";
const NORM: &str = "model.norm.weight";

struct Model {
    place: Place,
    header: Value,
    body: Vec<u8>,
}

impl Model {
    fn new() -> Self {
        let place = Place::new();
        place.write("words.txt", "a word and another one, and yet another. ".repeat(20));
        place.train_tiny("run", "").succeeded();
        let bytes = place.read(format!("{GOOD}/model.safetensors"));
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = serde_json::from_slice(&bytes[8..end]).unwrap();
        fs::create_dir(place.path("bad")).unwrap();
        Self { place, header, body: bytes[end..].to_vec() }
    }

    /// A copy of the good model with another file in it.
    fn with(&self, file: &str, bytes: impl AsRef<[u8]>) -> &Self {
        for name in ["config.json", "model.safetensors"] {
            self.place.write(&format!("bad/{name}"), self.place.read(format!("{GOOD}/{name}")));
        }
        self.place.write(&format!("bad/{file}"), bytes);
        self
    }

    fn with_header(&self, change: impl FnOnce(&mut Value)) -> &Self {
        let mut header = self.header.clone();
        change(&mut header);
        self.with("model.safetensors", safetensors(&header, &self.body))
    }

    fn with_config(&self, key: &str, value: Value) -> &Self {
        let mut config = self.place.json(format!("{GOOD}/config.json"));
        config[key] = value;
        self.with("config.json", config.to_string())
    }

    /// `eval`, `generate` and `pretrain` refuse the bad model.
    fn is_refused(&self, parts: &[&str]) {
        self.place.run("eval --adapter cpu --model bad --data words.txt --seq-len 8 --json").refused(parts);
        self.place.run("generate --adapter cpu --model bad --prompt a").refused(parts);
        let from = "--set model.from=bad --set train.batch_size=2 --set train.seq_len=8";
        self.place.run(&format!("pretrain --adapter cpu {from} --out other")).refused(parts);
        assert!(!self.place.path("other").exists());
    }
}

fn safetensors(header: &Value, body: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), body].concat()
}

#[test]
fn headers_that_are_cut_lie_or_are_no_json_are_refused_cpu() {
    let model = Model::new();
    let good = safetensors(&model.header, &model.body);
    let length = u64::from_le_bytes(good[..8].try_into().unwrap());
    let declares = |length: u64| [&length.to_le_bytes(), &good[8..]].concat();
    let file = "model.safetensors";
    model.with(file, "").is_refused(&[file, "0 bytes"]);
    model.with(file, &good[..5]).is_refused(&[file, "5 bytes"]);
    model.with(file, &good[..length as usize / 2]).is_refused(&[file, &length.to_string()]);
    model.with(file, &good[..good.len() - 3]).is_refused(&[file, "bytes"]);
    model.with(file, [&good[..], &[0]].concat()).is_refused(&[file, "bytes"]);
    model.with(file, declares(1 << 62)).is_refused(&[file, &(1u64 << 62).to_string()]);
    model.with(file, declares(length - 9)).is_refused(&[file, "header"]);
    model.with(file, declares(0)).is_refused(&[file, "header"]);
    let mut text = good.clone();
    text[8..8 + length as usize].fill(b'x');
    model.with(file, text).is_refused(&[file, "header"]);
    model.with_header(|header| header[NORM]["data_offsets"] = json!([0, 1u64 << 40])).is_refused(&[file]);
}

#[test]
fn tensors_of_other_names_shapes_types_and_values_are_refused_cpu() {
    let model = Model::new();
    let rename = |header: &mut Value| {
        let norm = header.as_object_mut().unwrap().remove(NORM).unwrap();
        header["model.other.weight"] = norm;
    };
    model.with_header(rename).is_refused(&[NORM, "no such tensor"]);
    model.with_header(|header| header[NORM]["shape"] = json!([4, 4])).is_refused(&[NORM, "[16]", "[4, 4]"]);
    model.with_header(|header| header[NORM]["dtype"] = json!("I32")).is_refused(&[NORM, "I32", "F32"]);
    let start = model.header[NORM]["data_offsets"][0].as_u64().unwrap() as usize;
    for (value, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut body = model.body.clone();
        body[start + 4..start + 8].copy_from_slice(&value.to_le_bytes());
        model.with("model.safetensors", safetensors(&model.header, &body)).is_refused(&[NORM, name, "element 1"]);
    }
    // A tensor more than the model has.
    model.with_config("tie_word_embeddings", json!(true)).is_refused(&["lm_head.weight"]);
    model.with_config("num_hidden_layers", json!(2)).is_refused(&["model.layers.1.", "no such tensor"]);
}

#[test]
fn configs_that_lack_or_ask_for_the_impossible_are_refused_cpu() {
    let model = Model::new();
    let file = "config.json";
    model.with(file, "").is_refused(&[file]);
    model.with(file, "{\"hidden_size\":").is_refused(&[file, "JSON"]);
    model.with(file, "[]").is_refused(&[file]);
    for key in ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"] {
        // null means absent.
        model.with_config(key, Value::Null).is_refused(&[file, key, "nothing"]);
        model.with_config(key, json!(0)).is_refused(&[file, key, "0"]);
        model.with_config(key, json!(-8)).is_refused(&[file, key, "-8"]);
        model.with_config(key, json!("8")).is_refused(&[file, key, "8"]);
    }
    model.with_config("num_key_value_heads", json!(3)).is_refused(&[file, "num_key_value_heads", "3"]);
    model.with_config("head_dim", json!(7)).is_refused(&[file, "head_dim", "7"]);
    model.with_config("model_type", json!("gpt2")).is_refused(&[file, "model_type", "gpt2"]);
    model.with_config("hidden_act", json!("gelu")).is_refused(&[file, "hidden_act", "gelu"]);
    model.with_config("attention_bias", json!(true)).is_refused(&[file, "attention_bias", "true"]);
    model.with_config("mlp_bias", json!(true)).is_refused(&[file, "mlp_bias", "true"]);
    let scaling = json!({ "rope_type": "llama3", "factor": 8.0 });
    model.with_config("rope_scaling", scaling.clone()).is_refused(&[file, "rope_scaling", "llama3"]);
    model.with_config("rope_parameters", scaling).is_refused(&[file, "rope_parameters", "llama3"]);
}

#[test]
fn missing_files_and_folders_are_refused_cpu() {
    let model = Model::new();
    model.is_refused(&["config.json"]);
    model.with("config.json", model.place.read(format!("{GOOD}/config.json")));
    fs::remove_file(model.place.path("bad/model.safetensors")).unwrap();
    model.is_refused(&["bad", "model.safetensors"]);
    fs::create_dir(model.place.path("bad/model.safetensors")).unwrap();
    model.is_refused(&["bad/model.safetensors", "folder"]);
    fs::remove_dir_all(model.place.path("bad")).unwrap();
    model.is_refused(&["bad", "a folder with config.json", "nothing there", "`evenkeel pretrain` makes"]);
    model.place.write("bad", "a file");
    model.is_refused(&["bad", "a file"]);
}

#[test]
fn seq_len_beyond_the_models_positions_is_refused_cpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    let from = format!("--set model.from={GOOD} --set train.seq_len=33");
    let finished = place.run(&format!("pretrain --adapter cpu {from} --out other"));
    finished.refused(&["train.seq_len", "33", "max_position_embeddings 32"]);
    assert!(!place.path("other").exists());
}

#[test]
fn a_damaged_newest_checkpoint_is_not_resumed_cpu() {
    let model = Model::new();
    let place = &model.place;
    let refused = |file: &str, bytes: &[u8], parts: &[&str]| {
        let path = format!("{GOOD}/{file}");
        let good = place.read(&path);
        place.write(&path, bytes);
        let metrics = place.read("run/metrics.jsonl");
        place.run("pretrain --adapter cpu --resume run").refused(parts);
        assert_eq!(place.read("run/metrics.jsonl"), metrics);
        assert_eq!(place.list("run/checkpoints"), ["step-000002", "step-000004"]);
        place.write(&path, good);
    };
    refused("trainer.json", b"{", &["trainer.json"]);
    refused("trainer.json", b"{\"format_version\": 9}", &["trainer.json", "format_version", "9"]);
    let mut trainer = place.json(format!("{GOOD}/trainer.json"));
    trainer["tokenizer"] = json!("none");
    refused("trainer.json", trainer.to_string().as_bytes(), &["tokenizer: expected the run's, got another"]);
    let optimizer = place.read(format!("{GOOD}/optimizer.safetensors"));
    refused("optimizer.safetensors", &optimizer[..optimizer.len() - 4], &["optimizer.safetensors"]);
    // A file of tensors, but not the optimizer's.
    let good = safetensors(&model.header, &model.body);
    refused("optimizer.safetensors", &good, &["optimizer.safetensors", "tensor"]);
    refused("model.safetensors", &optimizer, &["tensor"]);
    let mut config = place.json(format!("{GOOD}/config.json"));
    config["rms_norm_eps"] = json!(0.5);
    refused("config.json", config.to_string().as_bytes(), &["step-000004", "model"]);
    // Of another step than its folder says.
    for step in [5, 1_u64 << 63] {
        trainer = place.json(format!("{GOOD}/trainer.json"));
        trainer["step"] = json!(step);
        refused("trainer.json", trainer.to_string().as_bytes(), &["trainer.json", "step-000004", &step.to_string()]);
    }
    place.run("pretrain --adapter cpu --resume run").succeeded();
}

/// The line of a damaged checkpoint says which folder to move, and after which step the run then goes on.
#[test]
fn a_damaged_newest_checkpoint_leaves_a_way_on_cpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    let way_on = "; move run/checkpoints/step-000004 away to go on after step 2";
    let resume = || place.run("pretrain --adapter cpu --resume run");
    for file in ["config.json", "model.safetensors", "optimizer.safetensors", "trainer.json", "tokenizer.json"] {
        let path = format!("{GOOD}/{file}");
        let good = place.read(&path);
        place.write(&path, &good[..good.len() / 2]);
        resume().refused(&[file, way_on]);
        if file != "tokenizer.json" {
            fs::remove_file(place.path(&path)).unwrap();
            resume().refused(&[file, way_on]);
        }
        place.write(&path, good);
    }
    // What is no folder is no checkpoint, and an empty one is a damaged one.
    place.write("run/checkpoints/step-000009", "");
    resume().succeeded();
    fs::create_dir(place.path("run/checkpoints/step-000007")).unwrap();
    resume().refused(&["config.json", "; move run/checkpoints/step-000007 away to go on after step 4"]);
    fs::rename(place.path("run/checkpoints/step-000007"), place.path("moved")).unwrap();
    resume().succeeded();
    // Without an older one there is no such way.
    fs::remove_dir_all(place.path("run/checkpoints/step-000002")).unwrap();
    place.write(&format!("{GOOD}/trainer.json"), "{");
    let stderr = resume().refused(&["trainer.json"]).stderr();
    assert!(!stderr.contains("move "), "{stderr}");
}

/// A run that started from a checkpoint has its model in its own checkpoints, and sets up with the newest of them.
#[test]
fn a_damaged_checkpoint_of_a_run_with_model_from_leaves_a_way_on_cpu() {
    let place = Place::new();
    place.train_tiny("first", "--steps 1").succeeded();
    let from = "--set model.from=first --set train.batch_size=2 --set train.seq_len=16 --set train.checkpoint_every=2";
    place.run(&format!("pretrain --adapter cpu {from} --steps 4 --out run")).succeeded();
    place.write(&format!("{GOOD}/config.json"), "{");
    let parts = ["config.json", "; move run/checkpoints/step-000004 away to go on after step 2"];
    place.run("pretrain --adapter cpu --resume run").refused(&parts);
}
