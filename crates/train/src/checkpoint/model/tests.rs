#![allow(clippy::unwrap_used)]

use std::fs;

use tempfile::TempDir;

use super::super::tests::{tensors, tiny, weights};
use super::*;
use crate::tensor_file::{TensorRef, write_tensors};

/// A model folder with the tensors of `files`.
fn folder(files: &[(&str, &[TensorRef])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, tensors) in files {
        let mut bytes = Vec::new();
        write_tensors(&mut bytes, tensors).unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn error(folder: &Path, specs: &[ParameterSpec]) -> String {
    let error = load_parameters(folder, specs).map(drop).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn tensors_that_do_not_fit_the_model_are_named() {
    let config = tiny(false);
    let specs = config.parameters();
    let values = weights(&config);
    let good = tensors(&config, &values, "");

    let mut missing = good.clone();
    let removed = missing.remove(1);
    let message = error(folder(&[(MODEL_FILE, &missing)]).path(), &specs);
    let expected = format!("tensor {}: expected shape {:?}, got no such tensor", removed.name, removed.shape);
    assert!(message.starts_with(&expected), "{message}");

    let mut shaped = good.clone();
    shaped[1].shape.reverse();
    let message = error(folder(&[(MODEL_FILE, &shaped)]).path(), &specs);
    let expected = format!("tensor {}: expected shape {:?}, got {:?}", removed.name, removed.shape, shaped[1].shape);
    assert!(message.starts_with(&expected), "{message}");

    let mut extra = good.clone();
    extra.push(TensorRef { name: "adapter.weight".into(), shape: vec![1], data: &[1.0] });
    let message = error(folder(&[(MODEL_FILE, &extra)]).path(), &specs);
    assert!(message.starts_with("tensor adapter.weight: expected no such tensor, got one of shape [1]"), "{message}");

    let mut nan = values[4].clone();
    nan[2] = f32::NAN;
    let mut poisoned = good.clone();
    poisoned[4].data = &nan;
    let message = error(folder(&[(MODEL_FILE, &poisoned)]).path(), &specs);
    let expected = format!("tensor {}: expected finite values, got NaN at element 2", specs[4].name);
    assert!(message.starts_with(&expected), "{message}");

    // An untied model without a head is not a tied one.
    let message = error(folder(&[(MODEL_FILE, &good[..good.len() - 1])]).path(), &specs);
    assert!(message.starts_with("tensor lm_head.weight: expected shape [11, 8]"), "{message}");
}

#[test]
fn a_tied_model_may_repeat_its_embedding() {
    let config = tiny(true);
    let specs = config.parameters();
    let values = weights(&config);
    let mut stored = tensors(&config, &values, "");
    let plain = folder(&[(MODEL_FILE, &stored)]);
    assert_eq!(load_parameters(plain.path(), &specs).unwrap(), values);

    stored.push(TensorRef { name: HEAD.into(), shape: vec![11, 8], data: &values[0] });
    let repeated = folder(&[(MODEL_FILE, &stored)]);
    assert_eq!(load_parameters(repeated.path(), &specs).unwrap(), values);

    let mut other = values[0].clone();
    other[5] = 9.0;
    stored.last_mut().unwrap().data = &other;
    let message = error(folder(&[(MODEL_FILE, &stored)]).path(), &specs);
    let expected =
        "tensor lm_head.weight: expected the values of model.embed_tokens.weight (tie_word_embeddings), got 9 for ";
    assert!(message.starts_with(expected) && message.contains("element 5"), "{message}");
}

#[test]
fn tables_of_old_checkpoints_are_ignored() {
    let config = tiny(false);
    let values = weights(&config);
    let mut stored = tensors(&config, &values, "");
    stored.push(TensorRef { name: format!("model.layers.0{DERIVED_SUFFIX}"), shape: vec![2], data: &[1.0, 0.01] });
    let old = folder(&[(MODEL_FILE, &stored)]);
    assert_eq!(load_parameters(old.path(), &config.parameters()).unwrap(), values);
}

#[test]
fn sharded_models_load() {
    let config = tiny(false);
    let specs = config.parameters();
    let values = weights(&config);
    let stored = tensors(&config, &values, "");
    let (first, second) = stored.split_at(7);
    let sharded = folder(&[("a.safetensors", first), ("b.safetensors", second)]);
    let index = |map: &BTreeMap<String, String>| {
        let text = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
        fs::write(sharded.path().join(INDEX_FILE), text).unwrap();
    };
    let mut map = BTreeMap::new();
    for (tensors, file) in [(first, "a.safetensors"), (second, "b.safetensors")] {
        map.extend(tensors.iter().map(|t| (t.name.clone(), file.to_owned())));
    }
    index(&map);
    assert_eq!(load_parameters(sharded.path(), &specs).unwrap(), values);

    let mut lying = map.clone();
    lying.insert(first[0].name.clone(), "b.safetensors".into());
    index(&lying);
    assert!(error(sharded.path(), &specs).contains("b.safetensors: expected tensor model.embed_tokens.weight"));

    for escape in ["../a.safetensors", "/etc/passwd", "x/..", "", ".."] {
        let mut outside = map.clone();
        outside.insert(first[0].name.clone(), escape.into());
        index(&outside);
        let message = error(sharded.path(), &specs);
        assert!(message.contains("expected plain file names, got "), "{message}");
    }

    let mut absent = map.clone();
    absent.insert("x".into(), "c.safetensors".into());
    index(&absent);
    assert!(error(sharded.path(), &specs).starts_with("cannot open "));

    let twice = r#"{"weight_map": {"a": "a.safetensors", "a": "b.safetensors"}}"#;
    for text in ["", "[]", "{}", twice, "{\"weight_map\": {}}", "{\"weight_map\": {\"a\": 1}}", "{\"weight_map\": 3}"] {
        fs::write(sharded.path().join(INDEX_FILE), text).unwrap();
        assert!(error(sharded.path(), &specs).contains("expected a weight_map"), "{text}");
    }

    index(&map);
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, &stored[6..]).unwrap();
    fs::write(sharded.path().join("b.safetensors"), bytes).unwrap();
    let message = error(sharded.path(), &specs);
    assert!(message.contains("expected tensors that no other file of the model has"), "{message}");
}

#[test]
fn folders_without_a_model_are_errors() {
    let empty = tempfile::tempdir().unwrap();
    let specs = tiny(false).parameters();
    assert!(error(empty.path(), &specs).contains("expected a model.safetensors or "));
    assert!(error(&empty.path().join("none"), &specs).starts_with("cannot open "));
    let file = empty.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(error(&file, &specs).ends_with("expected a model folder, got a file"));
    assert!(read_config(empty.path()).unwrap_err().to_string().contains("config.json"));
}

#[test]
fn configs_are_read_with_their_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CONFIG_FILE);
    fs::write(&path, tiny(true).to_json()).unwrap();
    assert_eq!(read_config(folder.path()).unwrap(), tiny(true));
    let huge = vec![b' '; MAX_CONFIG as usize + 1];
    for (bytes, message) in [
        (&b"{}"[..], "hidden_size: expected "),
        (b"\xff", "expected UTF-8 text"),
        (&huge, "expected at most 1048576 bytes of text"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = read_config(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()) && error.contains(message), "{error}");
    }
}
