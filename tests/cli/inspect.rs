//! `evenkeel inspect`.

use std::{collections::HashSet, fs};

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::place::Place;

const NEWEST: &str = "run/checkpoints/step-000004";
const MATRICES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// A run of two layers, with a row of instruments after each step.
fn trained(more: &str) -> Place {
    let place = Place::new();
    let two = "--set model.num_hidden_layers=2 --set instruments.interval=1";
    place.train_tiny("run", &format!("{two} {more}")).succeeded();
    place
}

fn findings(place: &Place, arguments: &str) -> Value {
    serde_json::from_str(&place.run(&format!("inspect {arguments} --json")).succeeded().stdout()).unwrap()
}

/// mean, std (N - 1), absmax, kurtosis by the definitions, over sorted elements.
fn expected(values: &[f32]) -> [Option<f64>; 4] {
    let mut sorted: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / count;
    let moment = |power: i32| sorted.iter().map(|value| (value - mean).powi(power)).sum::<f64>() / count;
    let absmax = sorted[0].abs().max(sorted[sorted.len() - 1].abs());
    let kurtosis = (moment(2) > 0.0).then(|| moment(4) / moment(2).powi(2));
    [Some(mean), Some((moment(2) * count / (count - 1.0)).sqrt()), Some(absmax), kurtosis]
}

fn assert_close(got: &Value, expected: Option<f64>, what: &str) {
    match (got.as_f64(), expected) {
        (Some(got), Some(expected)) => {
            // Sums of a few hundred f64 numbers.
            let tolerance = 1e-12 * expected.abs().max(1e-3);
            assert!((got - expected).abs() <= tolerance, "{what}: expected {expected}, got {got}");
        }
        _ => assert!(got.is_null() && expected.is_none(), "{what}: expected {expected:?}, got {got}"),
    }
}

#[test]
fn every_tensor_has_its_statistics_cpu() {
    let place = trained("");
    let found = findings(&place, NEWEST);
    let keys: Vec<_> = found.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["run", "checkpoint", "tensors", "plots"]);
    assert_eq!((&found["run"], &found["checkpoint"], &found["plots"]), (&Value::Null, &json!(NEWEST), &json!([])));
    let bytes = place.read(format!("{NEWEST}/model.safetensors"));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let rows = found["tensors"].as_array().unwrap();
    assert_eq!(rows.len(), file.len());
    let table = place.run(&format!("inspect {NEWEST}")).succeeded().stdout();
    for (row, line) in rows.iter().zip(table.lines().skip(1)) {
        let keys: Vec<_> = row.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["name", "shape", "mean", "std", "absmax", "kurtosis", "lir_share", "non_finite"]);
        let name = row["name"].as_str().unwrap();
        let of = |name: &str| {
            let tensor = file.tensor(name).unwrap();
            let values: Vec<f32> =
                tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
            (tensor.shape().to_vec(), values)
        };
        let (shape, values) = of(name);
        assert_eq!((&row["shape"], &row["non_finite"]), (&json!(shape), &json!(0)));
        let [mean, std, absmax, kurtosis] = expected(&values);
        for (key, value) in [("mean", mean), ("std", std), ("absmax", absmax), ("kurtosis", kurtosis)] {
            assert_close(&row[key], value, &format!("{name} {key}"));
        }
        let matrix = name.contains("layers") && name.contains("proj");
        let share = matrix.then(|| {
            let [_, first, ..] = expected(&of(&name.replace("layers.1", "layers.0")).1);
            let root = if name.contains("layers.1") { 2f64.sqrt() } else { 1.0 };
            std.unwrap() * root / first.unwrap()
        });
        assert_close(&row["lir_share"], share, &format!("{name} lir_share"));
        let cells: Vec<_> = line.split_whitespace().collect();
        let extents: Vec<_> = shape.iter().map(usize::to_string).collect();
        assert_eq!((cells[0], cells[1]), (name, extents.join("x").as_str()));
        let shown: f64 = cells[3].parse().unwrap();
        assert!((shown / std.unwrap() - 1.0).abs() < 1e-3, "{line}");
        assert_eq!(cells[6] != "-", matrix, "{line}");
    }
}

/// The names of the elements of a text that is well-formed as far as an SVG of this program goes: one root, every
/// element closed, attributes quoted, no stray `<` or `&`.
fn elements(svg: &str) -> Vec<String> {
    let (mut open, mut names) = (Vec::new(), Vec::new());
    let mut rest = svg;
    while let Some((text, after)) = rest.split_once('<') {
        let known = ["amp;", "lt;", "gt;", "quot;", "apos;"];
        assert!(text.split('&').skip(1).all(|part| known.iter().any(|known| part.starts_with(known))), "{text}");
        assert!(!open.is_empty() || names.is_empty(), "expected one root, got text behind it: {text}");
        let (tag, after) = after.split_once('>').unwrap();
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap().to_owned();
        let attributes = &tag[name.len()..].trim_end_matches('/');
        let quoted: Vec<_> = attributes.split('"').collect();
        assert_eq!(quoted.len() % 2, 1, "expected quotes in pairs, got <{tag}>");
        assert!(quoted.iter().step_by(2).rev().skip(1).all(|name| name.ends_with('=')), "<{tag}>");
        names.push(name.clone());
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    names
}

/// What a plot shows: the number of its whole lines and histograms, that of its broken lines (by colour), and the
/// names in its legend.
fn series(place: &Place, plot: &str) -> (usize, usize, Vec<String>) {
    let svg = String::from_utf8(place.read(format!("plots/{plot}.svg"))).unwrap();
    let names = elements(&svg);
    assert_eq!(names[0], "svg");
    let tags = svg.split('<').filter_map(|part| part.split_once('>')).map(|(tag, _)| tag);
    for tag in tags {
        assert!(!tag.contains("NaN") && !tag.contains("inf"), "{plot}: expected coordinates, got <{tag}>");
    }
    // The label of the vertical axis stands between the panels and the legend, the title behind it.
    let (panels, beside) = svg.split_once("rotate(270").unwrap();
    let line = |tag: &&str| tag.starts_with("polyline") && tag.contains("stroke-width=\"18\"");
    let (broken, whole): (Vec<_>, Vec<_>) =
        panels.split('<').filter(line).partition(|tag| tag.contains("opacity=\"0.7\""));
    let colors: HashSet<_> = broken.iter().map(|tag| tag.split_once("stroke=").unwrap().1.split(' ').next()).collect();
    let texts: Vec<_> = beside.split("<text").skip(1).map(|text| text.split('\n').nth(1).unwrap().to_owned()).collect();
    (whole.len() + panels.matches("<polygon").count(), colors.len(), texts[..texts.len() - 1].to_vec())
}

#[test]
fn a_runs_plots_show_every_series_cpu() {
    let place = trained("");
    let text = place.run("inspect run --plots plots").succeeded().stdout();
    let histograms = ["embed_tokens", "lm_head"].iter().chain(&MATRICES).map(|kind| format!("histogram_{kind}"));
    let run = ["loss", "learning_rate", "grad_norm", "weight_std", "update_ratio"].map(str::to_owned);
    let residual = ["absmax", "median", "kurtosis"].map(|what| format!("residual_{what}"));
    let mut plots: Vec<_> = histograms.chain(run).chain(residual).chain(["std_by_layer".to_owned()]).collect();
    plots.sort();
    let files: Vec<_> = plots.iter().map(|plot| format!("{plot}.svg")).collect();
    assert_eq!(place.list("plots"), files);
    for file in files {
        assert!(text.contains(&format!("wrote plots/{file}\n")), "{text}");
    }
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(series(&place, "loss"), (2, 0, named(&["training", "validation"])));
    assert_eq!(series(&place, "learning_rate"), (1, 0, Vec::new()));
    // Embedding, head, and seven matrices in each of two layers.
    assert_eq!(series(&place, "weight_std"), (2 + 7 * 2, 0, named(&["layer 1", "layer 2"])));
    assert_eq!(series(&place, "update_ratio"), (2 + 7 * 2, 0, named(&["layer 1", "layer 2"])));
    let places = named(&["after embedding", "after layer 1", "after layer 2"]);
    assert_eq!(series(&place, "residual_absmax"), (3, 0, places));
    // Every matrix with its law.
    let (lines, laws, names) = series(&place, "std_by_layer");
    assert_eq!((lines, laws, &names[..7]), (7, 7, &named(&MATRICES)[..]));
    assert_eq!(series(&place, "histogram_q_proj"), (4, 0, named(&["weights", "normal"])));
    for plot in plots {
        assert!(series(&place, &plot).0 > 0, "{plot}");
    }
}

#[test]
fn a_kats_rational_functions_are_drawn_cpu() {
    let place = trained("--set model.arch=kat --set model.rational_groups=4 --set init.scheme=lir");
    place.run(&format!("inspect {NEWEST} --plots plots")).succeeded();
    for (plot, initial) in [("rational_act1", "initial (identity)"), ("rational_act2", "initial (swish)")] {
        let names = [initial, "group 1", "group 2", "group 3", "group 4"].map(str::to_owned);
        // Five in each of two layers.
        assert_eq!(series(&place, plot), (2 * 5, 0, names.to_vec()));
    }
    // Coefficients are no matrices: they have neither a share of the law nor a histogram.
    let found = findings(&place, NEWEST);
    let shares = found["tensors"].as_array().unwrap().iter().filter(|row| !row["lir_share"].is_null());
    let kinds: Vec<_> = shares.map(|row| row["name"].as_str().unwrap().rsplit('.').nth(1).unwrap()).collect();
    let layer = ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"];
    assert_eq!(kinds, [layer, layer].concat());
    assert_eq!(place.list("plots").iter().filter(|name| name.starts_with("histogram_")).count(), 2 + 6);
}

#[test]
fn a_run_is_summed_up_cpu() {
    let place = trained("--set optimizer.lr=0.003");
    let rows = place.metrics("run");
    let losses: Vec<_> = rows.iter().filter_map(|row| row.get("loss")?.as_f64()).collect();
    let best = rows.iter().filter_map(|row| row.get("valid_loss")?.as_f64()).fold(f64::INFINITY, f64::min);
    // What is not known is passed over, and a torn last row is left out.
    let metrics = String::from_utf8(place.read("run/metrics.jsonl")).unwrap();
    let more = "{\"step\":4,\"weather\":{\"rain\":1}}\n{\"step\":4,\"tvr_rescaled\":3}\n{\"step\":5,\"lo";
    place.write("run/metrics.jsonl", format!("{metrics}{more}"));
    let found = findings(&place, "run");
    let run = &found["run"];
    assert_eq!((&run["steps_done"], &run["steps"]), (&json!(4), &json!(4)));
    assert_eq!(run["first_loss"], json!({ "step": 1, "loss": losses[0] }));
    assert_eq!(run["last_loss"], json!({ "step": 4, "loss": losses[3] }));
    assert_eq!(run["best_valid_loss"]["loss"], best);
    assert_eq!((&run["tvr_firings"], &run["tvr_rescaled"]), (&json!(1), &json!(3)));
    assert_eq!(run["changed_settings"]["optimizer.lr"], 0.003);
    assert_eq!(run["changed_settings"]["model.hidden_size"], 16);
    assert_eq!(run["changed_settings"].get("optimizer.beta1"), None);
    assert_eq!(found["checkpoint"], NEWEST);
    let text = place.run("inspect run").succeeded().stdout();
    for part in ["4 of 4", &format!("{best:.4}"), NEWEST, "optimizer.lr", "0.003", "lm_head.weight"] {
        assert!(text.contains(part), "expected {part}, got\n{text}");
    }
    assert!(place.list("run").contains(&"lock".to_owned()));
}

#[test]
fn a_run_without_instruments_says_what_turns_them_on_cpu() {
    let place = Place::new();
    place.train_tiny("run", "--set instruments.interval=0").succeeded();
    let finished = place.run("inspect run --plots plots").succeeded();
    let stderr = finished.stderr();
    assert_eq!(stderr.lines().filter(|line| line.contains("instruments.interval")).count(), 1, "{stderr}");
    assert!(!place.list("plots").iter().any(|name| name.starts_with("residual") || name.starts_with("weight")));
    // A run that has not come to its first step.
    fs::remove_dir_all(place.path("run/checkpoints")).unwrap();
    fs::remove_file(place.path("run/metrics.jsonl")).unwrap();
    let text = place.run("inspect run --plots plots").succeeded().stdout();
    assert!(text.contains("0 of 4"), "{text}");
    assert_eq!(series(&place, "loss").0, 0);
}

#[test]
fn weights_that_are_not_finite_show_cpu() {
    let place = trained("");
    let path = format!("{NEWEST}/model.safetensors");
    let mut bytes = place.read(&path);
    // The last tensor by name is the final norm's.
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    place.write(&path, &bytes);
    let text = place.run(&format!("inspect {NEWEST} --plots plots")).succeeded().stdout();
    assert!(text.contains("NaN"), "{text}");
    assert!(text.contains("model.norm.weight: 1 of 16 elements are not finite"), "{text}");
    let found = findings(&place, NEWEST);
    let norm = found["tensors"].as_array().unwrap().iter().find(|row| row["name"] == "model.norm.weight").unwrap();
    assert_eq!((&norm["mean"], &norm["absmax"], &norm["non_finite"]), (&Value::Null, &Value::Null, &json!(1)));
    // In a matrix it must not reach the plots.
    let model = SafeTensors::deserialize(&bytes).unwrap();
    let matrix = model.tensor("model.layers.1.mlp.up_proj.weight").unwrap().data();
    let start = matrix.as_ptr() as usize - bytes.as_ptr() as usize;
    bytes[start..start + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    place.write(&path, &bytes);
    place.run(&format!("inspect {NEWEST} --plots plots")).succeeded();
    // One layer is left of up_proj: a dot.
    let (lines, laws, _) = series(&place, "std_by_layer");
    assert_eq!((lines, laws), (7, 7));
    let svg = String::from_utf8(place.read("plots/std_by_layer.svg")).unwrap();
    assert_eq!(svg.split_once("rotate(270").unwrap().0.matches("<circle").count(), 2 * 7 - 1);
    assert_eq!(series(&place, "histogram_up_proj").0, 3);
}

#[test]
fn what_is_neither_checkpoint_nor_run_is_refused_cpu() {
    let place = trained("");
    let inspect = |path: &str, parts: &[&str]| place.run(&format!("inspect {path}")).refused(parts);
    inspect("nowhere", &["nowhere", "config.json", "run.toml", "nothing there"]);
    inspect("tiny.toml", &["tiny.toml", "a file"]);
    inspect("run/checkpoints", &["run/checkpoints", "neither"]);
    inspect("run --plots tiny.toml", &["tiny.toml"]);
    // The loader's lines.
    let model = place.read(format!("{NEWEST}/model.safetensors"));
    place.write(&format!("{NEWEST}/model.safetensors"), &model[..model.len() - 4]);
    inspect(NEWEST, &["model.safetensors", "bytes"]);
    place.write(&format!("{NEWEST}/config.json"), "{");
    inspect("run", &["config.json", "JSON"]);
    place.write("run/metrics.jsonl", "{\"step\":1}\n{\"st\n{\"step\":3}\n");
    inspect("run", &["metrics.jsonl", "line 2"]);
    place.write("run/run.toml", "[train]\nsteps = 0\n");
    inspect("run", &["train.steps", "run.toml"]);
}
