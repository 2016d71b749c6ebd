//! `evenkeel eval`, and training through the command line, against PyTorch's numbers.

use evenkeel_tests::golden::Golden;
use serde_json::Value;

use crate::place::{Place, gpu};

fn golden(name: &str, place: &Place) -> Golden {
    let golden = Golden::load(name).unwrap();
    golden.write_shard(&place.path("stream.bin")).unwrap();
    golden
}

/// The first training batch of the golden run, cut into the windows that it consists of.
fn first_loss(name: &str, adapter: &str) {
    let place = Place::new();
    let golden = golden(name, &place);
    let [_, batch, time] = golden.extents;
    let first: Vec<u16> = golden.stream[..=batch * time].to_vec();
    place.write_shard("first.bin", [20_240_520, 1, first.len() as i32], &first);
    let model = golden.folder.display();
    let arguments = format!("eval --adapter {adapter} --model {model} --data first.bin --seq-len {time}");
    let text = place.run(&format!("{arguments} --json")).succeeded().stdout();
    let row: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let keys: Vec<_> = row.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["loss", "tokens", "perplexity"]);
    let loss = row["loss"].as_f64().unwrap();
    let expected = golden.tensor("losses")[0];
    assert!((loss - expected).abs() < 1e-5, "expected {expected}, got {loss}");
    assert_eq!(row["tokens"], batch * time);
    assert!((row["perplexity"].as_f64().unwrap() - loss.exp()).abs() < 1e-9 * loss.exp());
    let text = place.run(&arguments).succeeded().stdout();
    assert!(text.contains(&format!("{loss:.4}")), "{text}");
}

/// The last window must have all its targets to count.
#[test]
fn a_short_last_window_is_left_out_cpu() {
    let place = Place::new();
    let Golden { folder, stream, .. } = golden("llama-gqa", &place);
    let counted = |tokens: usize| {
        place.write_shard("some.bin", [20_240_520, 1, tokens as i32], &stream[..tokens]);
        let model = folder.display();
        let text = place.run(&format!("eval --adapter cpu --model {model} --data some.bin --seq-len 10 --json"));
        serde_json::from_str::<Value>(text.succeeded().stdout().trim()).unwrap()
    };
    assert_eq!(counted(31)["tokens"], 30);
    assert_eq!(counted(30)["tokens"], 20);
    assert_eq!(counted(30), counted(21));
    assert_eq!(counted(11)["tokens"], 10);
}

#[test]
fn the_loss_is_pytorchs_cpu() {
    first_loss("llama-gqa", "cpu");
    first_loss("llama-tied", "cpu");
    first_loss("llama-headdim", "cpu");
}

#[test]
fn the_loss_is_pytorchs_gpu() {
    first_loss("llama-gqa", gpu());
}

#[test]
fn lengths_are_checked_cpu() {
    let place = Place::new();
    let golden = golden("llama-gqa", &place);
    let eval = format!("eval --adapter cpu --model {} --data stream.bin --json --seq-len", golden.folder.display());
    place.run(&format!("{eval} 65")).refused(&["--seq-len", "64", "65"]);
    let default = eval.strip_suffix(" --seq-len").unwrap();
    assert_eq!(place.run(default).succeeded().stdout(), place.run(&format!("{eval} 64")).succeeded().stdout());
    place.run(&format!("{eval} 0")).refused(&["--seq-len", "0"]);
    place.run(&format!("{eval} 64")).succeeded();
}

/// The golden run as a user would start it; its losses are those of PyTorch.
fn trains(name: &str, adapter: &str) {
    let place = Place::new();
    let golden = golden(name, &place);
    let [steps, batch, time] = golden.extents;
    let betas = &golden.hyperparameters["betas"];
    let mut settings = vec![
        format!("model.from={:?}", golden.folder),
        "data.order=sequential".to_owned(),
        format!("train.batch_size={batch}"),
        format!("train.seq_len={time}"),
        format!("optimizer.beta1={}", betas[0]),
        format!("optimizer.beta2={}", betas[1]),
        format!("schedule.kind={}", golden.hyperparameters["schedule"]),
    ];
    for (section, keys) in [
        ("optimizer", &["lr", "eps", "weight_decay", "grad_clip"][..]),
        ("schedule", &["warmup_steps", "min_lr_ratio"]),
        ("train", &["grad_accumulation"]),
    ] {
        settings.extend(keys.iter().map(|key| format!("{section}.{key}={}", golden.hyperparameters[key])));
    }
    let sets: String = settings.iter().map(|setting| format!(" --set {setting}")).collect();
    place.run(&format!("pretrain --adapter {adapter} --data stream.bin --steps {steps} --out run{sets}")).succeeded();
    let rows = place.metrics("run");
    assert_eq!(rows.len(), steps);
    for (row, (loss, lr)) in rows.iter().zip(golden.tensor("losses").iter().zip(golden.tensor("lrs"))) {
        let got = row["loss"].as_f64().unwrap();
        assert!((got - loss).abs() < 1e-4, "expected a loss of {loss}, got {row}");
        assert!((row["lr"].as_f64().unwrap() - lr).abs() < 1e-12, "expected a learning rate of {lr}, got {row}");
    }
}

#[test]
fn training_is_pytorchs_cpu() {
    trains("llama-gqa", "cpu");
    trains("llama-tied", "cpu");
    trains("llama-headdim", "cpu");
}

#[test]
fn training_is_pytorchs_gpu() {
    trains("llama-gqa", gpu());
}
