//! What a run writes.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::place::{Place, gpu};

fn keys(row: &Value) -> Vec<&str> {
    row.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Names and text of a safetensors header.
fn header(bytes: &[u8]) -> Value {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice(&bytes[8..8 + length]).unwrap()
}

fn layout(place: &Place, run: &str, adapter: &str) {
    assert_eq!(
        place.list(run),
        [
            ".partial",
            "checkpoints",
            "events.out.tfevents",
            "lock",
            "metrics.jsonl",
            "run.toml",
            "samples.jsonl",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    assert_eq!(place.list(&format!("{run}/.partial")), [""; 0]);
    assert_eq!(place.list(&format!("{run}/checkpoints")), ["step-000002", "step-000004", "step-000005"]);
    for step in [2, 4, 5] {
        let checkpoint = format!("{run}/checkpoints/step-{step:06}");
        let files = [
            "config.json",
            "model.safetensors",
            "optimizer.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "trainer.json",
        ];
        assert_eq!(place.list(&checkpoint), files);
        let header = header(&place.read(format!("{checkpoint}/model.safetensors")));
        assert_eq!(header["__metadata__"], json!({ "format": "pt" }));
        assert_eq!(header["model.embed_tokens.weight"]["shape"], json!([128, 16]));
        let trainer = place.json(format!("{checkpoint}/trainer.json"));
        assert_eq!(trainer["format_version"], 1);
        assert_eq!(trainer["engine_version"], env!("CARGO_PKG_VERSION"));
        assert!(trainer["adapter"].as_str().unwrap().contains(adapter), "{trainer}");
        assert!(trainer["driver"].is_string() && trainer["backend"].is_string(), "{trainer}");
        assert_eq!([&trainer["step"], &trainer["applied_steps"]], [step, step]);
        // Of 2 sequences of 16 tokens each step.
        assert_eq!(trainer["data_position"], step * 32);
        assert_eq!([&trainer["seed"], &trainer["tokenizer"]], [&json!(1), &json!("bytes")]);
        let config = place.json(format!("{checkpoint}/config.json"));
        assert_eq!(config["model_type"], "llama");
        assert_eq!([&config["hidden_size"], &config["num_key_value_heads"], &config["head_dim"]], [16, 1, 8]);
    }
}

fn rows(place: &Place, run: &str) {
    let metrics = place.metrics(run);
    let kinds: Vec<_> = metrics.iter().map(|row| (row["step"].as_u64().unwrap(), row.get("loss").is_some())).collect();
    let expected = [(1, true), (2, true), (2, false), (3, true), (4, true), (4, false), (5, true), (5, false)];
    assert_eq!(kinds, expected);
    for row in &metrics {
        if row.get("loss").is_none() {
            assert_eq!(keys(row), ["step", "valid_loss", "valid_bpb"]);
            let loss = row["valid_loss"].as_f64().unwrap();
            // A byte is a token.
            assert!(loss > 0.0 && (row["valid_bpb"].as_f64().unwrap() * 2f64.ln() / loss - 1.0).abs() < 1e-12);
            continue;
        }
        let measured = (row["step"] == 5).then_some(["weights", "residual_stream"]);
        let of_all = ["step", "loss", "lr", "grad_norm", "tokens", "tokens_per_s"];
        assert_eq!(keys(row), of_all.into_iter().chain(measured.into_iter().flatten()).collect::<Vec<_>>());
        assert_eq!(row["tokens"], row["step"].as_u64().unwrap() * 32);
        assert!(
            ["loss", "lr", "grad_norm", "tokens_per_s"].iter().all(|key| row[key].as_f64().unwrap() > 0.0),
            "{row}"
        );
    }
    measured(&metrics[metrics.len() - 2]);
    // Weights of 0.02 make all 128 tokens about equally likely.
    assert!((metrics[0]["loss"].as_f64().unwrap() - 128f64.ln()).abs() < 0.1);
}

/// The last step of the tiny model: every matrix, and the stream after the embedding and each layer.
fn measured(row: &Value) {
    let weights = row["weights"].as_object().unwrap();
    assert!(weights.contains_key("model.layers.0.mlp.down_proj.weight"), "{row}");
    assert!(weights.contains_key("lm_head.weight") && !weights.contains_key("model.norm.weight"), "{row}");
    for of_one in weights.values() {
        assert_eq!(keys(of_one), ["std", "mean", "absmax", "update_ratio"]);
        assert!(of_one["std"].as_f64().unwrap() > 0.0 && of_one["update_ratio"].as_f64().unwrap() > 0.0, "{row}");
    }
    for of_one in row["residual_stream"].as_array().unwrap() {
        assert_eq!(keys(of_one), ["absmax", "median", "kurtosis"]);
        assert!(of_one["absmax"].as_f64() > of_one["median"].as_f64() && of_one["kurtosis"].as_f64() > Some(1.0));
    }
}

fn complete(adapter: &str, name: &str) {
    let place = Place::new();
    let arguments = format!("pretrain --adapter {adapter} --config tiny.toml --steps 5");
    let finished = place.run(&format!("{arguments} --out parent/run")).succeeded();
    let first = finished.stderr();
    assert!(first.lines().next().unwrap().contains(name), "expected the adapter first, got\n{first}");
    layout(&place, "parent/run", name);
    rows(&place, "parent/run");
    place.run(&format!("{arguments} --out again")).succeeded();
    for file in ["model.safetensors", "optimizer.safetensors", "trainer.json", "config.json"] {
        let of = |run| place.read(Path::new(run).join("checkpoints/step-000005").join(file));
        assert!(of("parent/run") == of("again"), "{file}: expected equal bytes of equal runs, got others");
    }
}

#[test]
fn a_run_on_the_cpu_writes_its_folder() {
    complete("cpu", "cpu");
}

#[test]
fn a_run_on_the_gpu_writes_its_folder() {
    complete(gpu(), gpu());
}

/// A step's tokens are those of all its micro-batches.
#[test]
fn the_data_position_counts_micro_batches_cpu() {
    let place = Place::new();
    place.train_tiny("run", "--steps 2 --set train.grad_accumulation=3").succeeded();
    assert_eq!(place.json("run/checkpoints/step-000002/trainer.json")["data_position"], 2 * 3 * 32);
    let tokens = place.metrics("run").into_iter().filter_map(|row| row.get("tokens")?.as_u64());
    assert_eq!(tokens.collect::<Vec<_>>(), [96, 192]);
}

/// A step is made with the learning rate that its row says: one on the way up is that of a run without a warm-up.
#[test]
fn a_step_of_the_warmup_has_its_learning_rate_cpu() {
    let place = Place::new();
    let constant = "--steps 1 --set schedule.kind=constant --set schedule.warmup_steps";
    place.train_tiny("rising", &format!("{constant}=4 --set optimizer.lr=4e-3")).succeeded();
    place.train_tiny("flat", &format!("{constant}=0 --set optimizer.lr=1e-3")).succeeded();
    place.train_tiny("steep", &format!("{constant}=0 --set optimizer.lr=2e-3")).succeeded();
    assert_eq!(place.metrics("rising")[0]["lr"], 1e-3);
    let model = |run: &str| place.read(format!("{run}/checkpoints/step-000001/model.safetensors"));
    assert!(model("rising") == model("flat"), "expected the weights of the same learning rate, got others");
    assert!(model("steep") != model("flat"), "expected other weights of another learning rate, got the same");
}

/// Windows of a validation set that do not fill the last batch are not counted twice.
#[test]
fn a_run_measures_what_eval_does_cpu() {
    let place = Place::new();
    place.write("train.txt", "the boat sails evenly down the river. ".repeat(40));
    place.write("valid.txt", "and then the keel was even, all the way. ".repeat(5));
    let more = "--tokenizer bytes --data train.txt --valid valid.txt --set train.batch_size=5";
    place.train_tiny("run", more).succeeded();
    let model = "run/checkpoints/step-000004";
    let eval = format!("eval --adapter cpu --model {model} --data valid.txt --seq-len 16 --json");
    let row: Value = serde_json::from_str(&place.run(&eval).succeeded().stdout()).unwrap();
    // 205 bytes are 12 windows; eval takes them by eights.
    assert_eq!(row["tokens"], 12 * 16, "windows of a short last batch");
    let measured = place.metrics("run").pop().unwrap()["valid_loss"].as_f64().unwrap();
    assert!((measured / row["loss"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{measured} {row}");
}

#[test]
fn as_many_checkpoints_stay_as_asked_for_cpu() {
    let place = Place::new();
    let every = "--steps 7 --set train.checkpoint_every=2 --set train.keep_checkpoints";
    place.train_tiny("two", &format!("{every}=2")).succeeded();
    assert_eq!(place.list("two/checkpoints"), ["step-000006", "step-000007"]);
    place.train_tiny("all", &format!("{every}=0")).succeeded();
    assert_eq!(place.list("all/checkpoints"), ["step-000002", "step-000004", "step-000006", "step-000007"]);
    place.train_tiny("last", "--set train.checkpoint_every=0").succeeded();
    assert_eq!(place.list("last/checkpoints"), ["step-000004"]);
}

/// The lowest validation loss of a run's metrics, and its step.
fn lowest(place: &Place, run: &str) -> (u64, f64) {
    let losses =
        place.metrics(run).into_iter().filter_map(|row| Some((row["step"].as_u64()?, row["valid_loss"].as_f64()?)));
    losses.min_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap()
}

/// A learning rate that first helps and then ruins the model: the best evaluation comes early, between two checkpoints.
#[test]
fn the_best_checkpoint_stays_beside_the_newest_cpu() {
    let place = Place::new();
    let ruin = "--steps 60 --set train.eval_every=5 --set train.checkpoint_every=6 --set train.keep_checkpoints=2 \
                --set optimizer.lr=10 --set schedule.kind=constant --set schedule.warmup_steps=60";
    let finished = place.train_tiny("run", ruin).succeeded();
    let (step, loss) = lowest(&place, "run");
    assert!(step < 54 && step % 6 != 0, "expected an early best, off the checkpoints' steps, got {step}");
    let best = format!("step-{step:06}");
    assert_eq!(place.list("run/checkpoints"), [best.as_str(), "step-000054", "step-000060"]);
    assert!(finished.stderr().contains(&format!("after step {step}")), "{}", finished.stderr());
    let trainer = place.json("run/checkpoints/step-000060/trainer.json");
    assert_eq!(trainer["best"], json!({ "step": step, "valid_loss": loss }));
    let eval = |model: &str| {
        let arguments = format!("eval --adapter cpu --model {model} --data tiny.toml --seq-len 16 --json");
        place.run(&arguments).succeeded().stdout()
    };
    let of_best = eval(&format!("run/checkpoints/{best}"));
    assert_ne!(of_best, eval("run/checkpoints/step-000060"));
    assert_eq!([eval("run"), eval("run/checkpoints/best")], [of_best.clone(), of_best]);
    place.run("eval --adapter cpu --model run/checkpoints/worst --data tiny.toml --seq-len 16").refused(&["worst"]);

    // A run that starts from another's best says which checkpoint that was.
    let from = "--set model.from=run --set train.batch_size=2 --set train.seq_len=16 --steps 1";
    place.run(&format!("pretrain --adapter cpu {from} --out more")).succeeded();
    let toml = String::from_utf8(place.read("more/run.toml")).unwrap();
    assert!(toml.contains(&format!("run/checkpoints/{best}")), "{toml}");

    // A run that goes on knows what it has to beat.
    let trainer = place.read("run/checkpoints/step-000060/trainer.json");
    fs::remove_dir_all(place.path("run/checkpoints/step-000060")).unwrap();
    place.run("pretrain --adapter cpu --resume run").succeeded();
    assert_eq!(place.list("run/checkpoints"), [best.as_str(), "step-000054", "step-000060"]);
    assert_eq!(place.read("run/checkpoints/step-000060/trainer.json"), trainer);

    place.train_tiny("without", &format!("{ruin} --set train.keep_best=false")).succeeded();
    assert_eq!(place.list("without/checkpoints"), ["step-000054", "step-000060"]);
    // One that is to have no checkpoint before its end has none for its best either.
    place.train_tiny("end", &ruin.replace("checkpoint_every=6", "checkpoint_every=0")).succeeded();
    assert_eq!(place.list("end/checkpoints"), ["step-000060"]);
}

#[test]
fn without_out_a_run_goes_to_its_date_and_time_cpu() {
    let place = Place::new();
    place.run("pretrain --adapter cpu --config tiny.toml --steps 1").succeeded();
    let [name] = &place.list("runs")[..] else { panic!("expected one run, got {:?}", place.list("runs")) };
    let shape: String = name.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00-000000");
    assert_eq!(place.list(&format!("runs/{name}/checkpoints")), ["step-000001"]);
}

#[test]
fn a_used_folder_is_refused_and_left_as_it_is_cpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    let before = place.read("run/metrics.jsonl");
    place.train_tiny("run", "").refused(&["run folder run", "--resume"]);
    assert_eq!(place.read("run/metrics.jsonl"), before);
    fs::create_dir(place.path("foreign")).unwrap();
    place.write("foreign/letter.txt", "dear");
    place.train_tiny("foreign", "").refused(&["run folder foreign", "letter.txt"]);
    assert_eq!(place.list("foreign"), ["letter.txt"]);
    place.train_tiny("tiny.toml", "").refused(&["tiny.toml"]);
    // An empty one will do.
    fs::create_dir(place.path("empty")).unwrap();
    place.train_tiny("empty", "").succeeded();
}

/// A place that cannot be a run's folder is told before any work, and nothing is left there.
#[cfg(unix)]
#[test]
fn an_impossible_folder_is_refused_at_once_cpu() {
    let place = Place::new();
    place.write("book.txt", "all work and no play makes jack a dull boy. ".repeat(40));
    std::os::unix::fs::symlink("nowhere", place.path("link")).unwrap();
    let refused = |out: &str, parts: &[&str]| {
        let stderr = place.train_tiny(out, "--data book.txt").refused(parts).stderr();
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        place.write("study.toml", "[study]\nname = \"a\"\nseeds = [1]\n[[arm]]\nname = \"a\"\n");
        let study = format!("study study.toml --adapter cpu --out {out}");
        assert_eq!(place.run(&study).refused(parts).stderr().lines().count(), 1);
    };
    refused("tiny.toml", &["tiny.toml: expected a new or empty folder, got a file"]);
    refused("tiny.toml/x/y", &["tiny.toml/x/y: expected a new or empty folder, got one below the file", "tiny.toml"]);
    refused("link", &["link: expected a new or empty folder, got a link to nothing"]);
    refused("link/x", &["link/x: expected a new or empty folder, got a link to nothing"]);
    if cfg!(target_os = "linux") {
        refused("/proc/run", &["cannot create /proc/run"]);
    }
    assert_eq!(place.list("."), ["book.txt", "link", "study.toml", "tiny.toml"]);
}

#[test]
fn a_model_of_shards_has_no_tokenizer_and_no_evaluation_cpu() {
    let place = Place::new();
    let tokens: Vec<u16> = (0..40).collect();
    place.write_shard("numbers.bin", [20_240_520, 1, 40], &tokens);
    let sequential = "--data numbers.bin --set data.order=sequential";
    let stderr = place.train_tiny("run", sequential).succeeded().stderr();
    // The second step reads tokens 32 to 64 of 40, and the later ones pass the end, too.
    assert_eq!(stderr.matches("begins again").count(), 1, "{stderr}");
    assert!(!stderr.contains("sample"), "{stderr}");
    assert_eq!(place.json("run/checkpoints/step-000004/trainer.json")["tokenizer"], "none");
    assert!(place.metrics("run").iter().all(|row| row.get("valid_loss").is_none()));
    place.train_tiny("validated", &format!("{sequential} --valid numbers.bin")).succeeded();
    assert!(place.metrics("validated").iter().any(|row| row.get("valid_loss").is_some()));
}
