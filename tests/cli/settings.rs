//! Where settings come from, and what a run would take.

use crate::place::Place;

/// The line of a TOML file that sets a key.
fn line<'a>(toml: &'a str, key: &str) -> &'a str {
    toml.lines().find(|line| line.split(" =").next() == Some(key)).unwrap_or_else(|| panic!("{key} is not in\n{toml}"))
}

#[test]
fn flags_go_before_set_before_file_before_preset_cpu() {
    let place = Place::new();
    place.write("words.txt", "one word after another, and so on. ".repeat(20));
    place.write(
        "run.toml",
        "[model]\npreset = \"nano\"\nhidden_size = 16\nintermediate_size = 24\nnum_hidden_layers = 1\n\
         [train]\nsteps = 9\nseed = 5\nbatch_size = 2\n[optimizer]\nlr = 1e-3\nbeta1 = 0.5\n[data]\ntrain = \"words.txt\"\n",
    );
    let flags =
        "--set train.steps=8 --set train.seq_len=8 --set optimizer.lr=2e-4 --set schedule.kind=constant --steps 1";
    place.run(&format!("pretrain --adapter cpu --config run.toml {flags} --out run")).succeeded();
    let toml = String::from_utf8(place.read("run/run.toml")).unwrap();
    assert_eq!(line(&toml, "steps"), "steps = 1");
    assert_eq!(line(&toml, "lr"), "lr = 0.0002");
    assert_eq!(line(&toml, "seq_len"), "seq_len = 8");
    assert_eq!(line(&toml, "beta1"), "beta1 = 0.5");
    assert_eq!(line(&toml, "seed"), "seed = 5");
    assert_eq!(line(&toml, "hidden_size"), "hidden_size = 16");
    assert_eq!(line(&toml, "num_key_value_heads"), "num_key_value_heads = 2");
    assert_eq!(line(&toml, "beta2"), "beta2 = 0.95");
    // What stands in the file is said again where the run is: paths from the root.
    let words = place.path("words.txt").canonicalize().unwrap();
    assert_eq!(line(&toml, "train"), format!("train = [{:?}]", words.to_str().unwrap()));
    assert_eq!(place.metrics("run")[0]["lr"], 2e-4);
}

#[test]
fn a_resolved_run_file_gives_the_same_run_cpu() {
    let place = Place::new();
    place.train_tiny("first", "--seed 7 --set optimizer.lr=1e-2").succeeded();
    place.run("pretrain --adapter cpu --config first/run.toml --out second").succeeded();
    assert_eq!(place.read("first/run.toml"), place.read("second/run.toml"));
    let model = |run| place.read(format!("{run}/checkpoints/step-000004/model.safetensors"));
    assert!(model("first") == model("second"), "expected equal models, got others");
    place.train_tiny("third", "--seed 8 --set optimizer.lr=1e-2").succeeded();
    assert!(model("first") != model("third"), "expected another seed to give another model");
}

#[test]
fn a_run_can_start_from_a_checkpoint_cpu() {
    let place = Place::new();
    place.train_tiny("first", "").succeeded();
    let from = "--set model.from=first/checkpoints/step-000004 --set train.batch_size=2 --set train.seq_len=16";
    // A learning rate of 0 keeps the weights.
    place.run(&format!("pretrain --adapter cpu {from} --steps 1 --set optimizer.lr=0 --out second")).succeeded();
    let file = "model.safetensors";
    let (first, second) =
        (format!("first/checkpoints/step-000004/{file}"), format!("second/checkpoints/step-000001/{file}"));
    assert!(place.read(first) == place.read(second), "expected the weights of the checkpoint, got others");
}

fn dry_run(adapter: &str) {
    let place = Place::new();
    let text =
        place.run(&format!("pretrain --adapter {adapter} --config tiny.toml --out run --dry-run")).succeeded().stdout();
    // Embedding and head 2 * 128 * 16; attention q and o 2 * 16 * 16, k and v 2 * 16 * 8; MLP 3 * 16 * 24; norms 3 * 16.
    let parameters = 2 * 128 * 16 + 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24 + 3 * 16;
    assert!(text.lines().next().unwrap().starts_with("parameters") && text.contains(&parameters.to_string()), "{text}");
    for part in ["gradients", "moments", "activations", "memory", "live peak", "FLOP", "disk", "fits               yes"]
    {
        assert!(text.contains(part), "expected {part:?}, got\n{text}");
    }
    assert_eq!(place.list("."), ["tiny.toml"]);
}

#[test]
fn a_dry_run_tells_what_a_run_takes_cpu() {
    dry_run("cpu");
}

#[test]
fn a_dry_run_tells_what_a_run_takes_gpu() {
    dry_run(crate::place::gpu());
}

#[test]
fn a_run_beyond_memory_is_refused_cpu() {
    let place = Place::new();
    // About 2 TiB of activations.
    let vast = "--set train.batch_size=8000 --set model.intermediate_size=4096 --set model.num_hidden_layers=300";
    let plan = place.train_tiny("run", &format!("{vast} --dry-run"));
    assert!(plan.stdout().contains("fits               no"), "{}", plan.stdout());
    plan.refused(&["memory", "batch_size"]);
    place.train_tiny("run", vast).refused(&["memory", "batch_size"]);
    assert_eq!(place.list("."), ["tiny.toml"]);
}

#[test]
fn help_has_every_key_cpu() {
    let place = Place::new();
    let help = place.run("pretrain --help").succeeded().stdout();
    place.train_tiny("run", "").succeeded();
    let toml = String::from_utf8(place.read("run/run.toml")).unwrap();
    let mut section = "";
    for line in toml.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.split_once(" =") {
            assert!(help.contains(&format!("{section}.{key}")), "expected {section}.{key} in\n{help}");
        }
    }
}

#[test]
fn the_readme_shows_the_table_of_keys_that_help_shows() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let table = evenkeel_train::settings::key_table();
    assert!(readme.contains(&table), "README.md: expected this table:\n{table}");
}
