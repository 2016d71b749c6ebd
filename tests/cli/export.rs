//! Models that are written for other programs, and the models of transformers in `assets/golden`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use evenkeel_train::checkpoint::model::{load_parameters, read_config};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::place::Place;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/golden").join(name)
}

/// Exports a golden model into the folder `out`.
fn export(place: &Place, name: &str, out: &str, more: &str) -> String {
    let model = golden(name);
    place.run(&format!("export --model {} --out {out} {more}", model.display())).succeeded().stdout()
}

/// Names, shapes, dtypes and bytes of all tensors of a folder's files, by name.
fn tensors(folder: &Path) -> Vec<(String, Vec<usize>, Dtype, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_model = path.file_name().unwrap().to_str().unwrap().starts_with("model");
        if !is_model || path.extension().unwrap() != "safetensors" {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let of = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            (name, view.shape().to_vec(), view.dtype(), view.data().to_vec())
        };
        all.extend(file.tensors().into_iter().map(of));
    }
    all.sort();
    all
}

/// What transformers stored comes back byte by byte, in as many files or one.
#[test]
fn a_model_of_transformers_is_exported_as_it_was() {
    let place = Place::new();
    for (name, dtype) in [("exchange-f16", "f16"), ("exchange-tied-bf16", "bf16"), ("exchange-sharded", "bf16")] {
        for (out, more) in [("one", ""), ("many", "--max-shard-size 2KB")] {
            let out = format!("{name}-{out}");
            export(&place, name, &out, &format!("--dtype {dtype} {more}"));
            assert_eq!(tensors(&place.path(&out)), tensors(&golden(name)), "{out}");
        }
    }
    let config = place.json("exchange-f16-one/config.json");
    assert_eq!(
        config,
        serde_json::from_slice::<serde_json::Value>(&fs::read(golden("exchange-f16/config.json")).unwrap()).unwrap()
    );
    assert_eq!([&config["bos_token_id"], &config["eos_token_id"]], [&json!(5), &json!([6, 7])]);
    let older = place.json("exchange-sharded-one/config.json");
    assert_eq!([&older["dtype"], &older["torch_dtype"]], [&json!("bfloat16"), &json!(null)]);
}

#[test]
fn an_f32_model_is_rounded_to_the_nearest() {
    let place = Place::new();
    for dtype in ["f32", "f16", "bf16"] {
        let text = export(&place, "llama-gqa", dtype, &format!("--dtype {dtype}"));
        assert!(text.contains("49.10 k") && text.contains(dtype), "{text}");
        assert_eq!(place.list(dtype), ["config.json", "model.safetensors"]);
        let (before, after) = (tensors(&golden("llama-gqa")), tensors(&place.path(dtype)));
        assert_eq!(before.len(), after.len());
        for ((name, shape, _, bytes), (got_name, got_shape, _, got)) in before.iter().zip(&after) {
            assert_eq!((name, shape), (got_name, got_shape));
            let values = bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
            let expected: Vec<u8> = match dtype {
                "f32" => bytes.clone(),
                "f16" => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
                _ => values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
            };
            assert!(*got == expected, "{dtype}: {name}");
        }
    }
    let torch = ["f32", "f16", "bf16"].map(|dtype| place.json(format!("{dtype}/config.json"))["dtype"].clone());
    assert_eq!(torch, ["float32", "float16", "bfloat16"].map(|name| json!(name)));
}

#[test]
fn shards_keep_to_their_size_and_the_index_says_where_tensors_are() {
    let place = Place::new();
    export(&place, "llama-tied", "out", "--dtype f16 --max-shard-size 6KB");
    let index = place.json("out/model.safetensors.index.json");
    let map = index["weight_map"].as_object().unwrap();
    let all = tensors(&golden("llama-tied"));
    assert_eq!(map.len(), all.len());
    let (mut elements, mut files) = (0, Vec::new());
    for (name, shape, _, _) in &all {
        let file = map[name].as_str().unwrap();
        let bytes = place.read(format!("out/{file}"));
        let stored = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(stored.tensor(name).unwrap().shape(), shape);
        let size: usize = stored.iter().map(|(_, view)| view.data().len()).sum();
        assert!(size <= 6000 || stored.len() == 1, "{file}: {size} bytes in {} tensors", stored.len());
        elements += shape.iter().product::<usize>();
        files.push(file.to_owned());
    }
    files.sort();
    files.dedup();
    let count = files.len();
    assert!(count > 5, "{files:?}");
    assert!(
        files.iter().zip(1..).all(|(file, i)| *file == format!("model-{i:05}-of-{count:05}.safetensors")),
        "{files:?}"
    );
    assert_eq!(index["metadata"], json!({ "total_parameters": elements, "total_size": 2 * elements }));
    let config = read_config(&place.path("out")).unwrap();
    let [sharded, whole] = [place.path("out"), golden("llama-tied")]
        .map(|folder| load_parameters(&folder, &config.parameters()).unwrap().concat());
    assert!(sharded.iter().zip(&whole).all(|(half, &value)| *half == f16::from_f32(value).to_f32()));
}

/// A run stands for its best checkpoint; files that go with the model go with it; the export trains on.
#[test]
fn a_run_is_exported_and_trained_on_cpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    let checkpoint = "run/checkpoints/step-000004";
    place.write(&format!("{checkpoint}/tokenizer.json"), "{}");
    place.write(&format!("{checkpoint}/generation_config.json"), "{\"eos_token_id\": 3}\n");
    place.run("export --model run --out a/b/out").succeeded();
    assert_eq!(place.list("a/b"), ["out"]);
    let expected = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"];
    let written = place.list("a/b/out");
    assert!(expected.iter().all(|name| written.iter().any(|file| file == name)), "{written:?}");
    assert!(place.read("a/b/out/tokenizer.json") == b"{}");
    fs::remove_file(place.path("a/b/out/tokenizer.json")).unwrap();
    let more = "--set model.from=a/b/out --set model.freeze=['model.embed_tokens','norm'] --set train.batch_size=2 \
                --set train.seq_len=16 --steps 1";
    place.run(&format!("pretrain --adapter cpu {more} --out more")).succeeded();
    let (before, after) = (tensors(&place.path("a/b/out")), tensors(&place.path("more/checkpoints/step-000001")));
    for ((name, _, _, before), (_, _, _, after)) in before.iter().zip(&after) {
        let frozen = name.contains("embed_tokens") || name == "model.norm.weight";
        assert_eq!(before == after, frozen, "{name}: whether it kept its bits");
    }
    let optimizer = place.read("more/checkpoints/step-000001/optimizer.safetensors");
    let optimizer = SafeTensors::deserialize(&optimizer).unwrap();
    assert!(optimizer.names().iter().all(|name| !name.contains("embed_tokens")), "{:?}", optimizer.names());
    for model in ["a/b/out", "more", "more/checkpoints/best", "more/checkpoints/step-000001"] {
        let eval = format!("eval --adapter cpu --model {model} --data tiny.toml --seq-len 16 --json");
        place.run(&eval).succeeded();
    }
}

#[test]
fn exports_that_cannot_be_are_refused_and_leave_nothing() {
    let place = Place::new();
    let model = golden("llama-gqa").display().to_string();
    fs::create_dir(place.path("full")).unwrap();
    place.write("full/letter.txt", "dear");
    let export = |out: &str, more: &str| place.run(&format!("export --model {model} --out {out} {more}"));
    export("full", "").refused(&["full", "a new or empty folder", "letter.txt"]);
    export("tiny.toml", "").refused(&["tiny.toml", "a new or empty folder", "a file"]);
    export("/", "").refused(&["the path of a new folder"]);
    assert!(export("out", "--dtype f8").stderr().contains("[possible values: f32, f16, bf16]"));
    assert!(export("out", "--max-shard-size many").stderr().contains("invalid value 'many' for '--max-shard-size"));
    place.run("export --model full --out out").refused(&["config.json"]);

    // 1e5 is beyond f16, not beyond bf16.
    fs::create_dir(place.path("large")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden("llama-gqa").join(file), place.path("large").join(file)).unwrap();
    }
    let mut bytes = place.read("large/model.safetensors");
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&1e5_f32.to_le_bytes());
    place.write("large/model.safetensors", &bytes);
    let large = |dtype: &str| place.run(&format!("export --model large --out out --dtype {dtype}"));
    large("f16").refused(&["values that f16 can hold", "got 100000 at element"]);
    assert_eq!(place.list("."), ["full", "large", "tiny.toml"]);
    // What a kill left goes with the next export to the same place, and an empty folder will do.
    fs::create_dir_all(place.path(".out.partial/junk")).unwrap();
    fs::create_dir(place.path("out")).unwrap();
    large("bf16").succeeded();
    assert_eq!(place.list("."), ["full", "large", "out", "tiny.toml"]);
    assert_eq!(place.list("out"), ["config.json", "model.safetensors"]);
}
