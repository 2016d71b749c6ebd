//! `evenkeel bench`.

use serde_json::Value;

use crate::place::{Place, gpu};

fn figures_agree(adapter: &str) {
    let report = Place::new().run(&format!("bench --adapter {adapter} --json")).succeeded().stdout();
    let report: Value = serde_json::from_str(&report).unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&report["copy_bytes_per_s"]) > 0.0 && number(&report["matmul_flop_per_s"]) > 0.0, "{report}");
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| &step["model"]).collect::<Vec<_>>(), ["llama", "kat"]);
    for step in steps {
        assert_eq!((&step["preset"], &step["precision"]), (&"nano".into(), &"f32".into()));
        // 8 sequences of 128 tokens a step.
        let tokens = number(&step["tokens_per_s"]) * number(&step["ms"]) / 1e3;
        assert!((tokens - 1024.0).abs() < 1e-6, "{step}");
        assert!(number(&step["first_step_s"]) > 0.0 && number(&step["planned_bytes"]) > 0.0, "{step}");
        let [batch, record, submit] =
            ["batch", "record", "submit"].map(|name| number(&step[format!("host_{name}_ms")]));
        assert!(batch > 0.0 && (record > 0.0) == (adapter != "cpu") && (submit > 0.0) == (adapter != "cpu"), "{step}");
    }
    // Every matrix and norm of 4 layers is used forward and backward.
    assert!(number(&steps[0]["dispatches"]) > 2.0 * 4.0 * 9.0, "{report}");
}

#[test]
fn figures_agree_cpu() {
    figures_agree("cpu");
}

#[test]
fn figures_agree_gpu() {
    figures_agree(gpu());
}

#[test]
fn both_precisions_are_timed_where_they_are_named_cpu() {
    let arguments = "bench --adapter cpu --json --model llama --precision mixed --precision f32";
    let report: Value = serde_json::from_str(&Place::new().run(arguments).succeeded().stdout()).unwrap();
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| &step["precision"]).collect::<Vec<_>>(), ["f32", "mixed"]);
    // Activations are half as large, and copies of the weights in half precision come with them: nano's are 8 sequences of 128.
    let planned = |step: &Value| step["planned_bytes"].as_u64().unwrap();
    assert!(planned(&steps[1]) < planned(&steps[0]), "{report}");
    Place::new().run("bench --adapter cpu --precision f64").refused(&[]);
}

/// The MLP of nano's KAT has 528 channels, which mixed precision cannot store in whole groups of 32.
#[test]
fn what_does_not_fit_leaves_the_others_their_rows_cpu() {
    let finished = Place::new().run("bench --adapter cpu --json --precision f32 --precision mixed").succeeded();
    let report: Value = serde_json::from_str(&finished.stdout()).unwrap();
    let steps = report["steps"].as_array().unwrap().iter().map(|step| [&step["model"], &step["precision"]]);
    assert_eq!(steps.collect::<Vec<_>>(), [["llama", "f32"], ["llama", "mixed"], ["kat", "f32"]]);
    assert!(finished.stderr().contains("not measured: train.precision"), "{}", finished.stderr());
    Place::new().run("bench --adapter cpu --model kat --precision mixed").refused(&["intermediate_size", "528"]);
}

#[test]
fn one_model_alone_is_timed_where_it_is_named_cpu() {
    let report = Place::new().run("bench --adapter cpu --json --model kat").succeeded().stdout();
    let report: Value = serde_json::from_str(&report).unwrap();
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| &step["model"]).collect::<Vec<_>>(), ["kat"]);
}

/// By the formulas for this family: 2 V C + L (4 C^2 + 3 C F + 2 C) + C parameters, each with a gradient, two moments and
/// the instruments' copy.
#[test]
fn the_largest_models_fit_their_memory_and_grow_with_it_cpu() {
    let report = Place::new().run("bench --adapter cpu --largest --json").succeeded().stdout();
    let report: Value = serde_json::from_str(&report).unwrap();
    let rows = report["largest"].as_array().unwrap();
    assert_eq!(rows.len(), 12, "{report}");
    let mut last = [0; 2];
    for row in rows {
        let number = |key: &str| row[key].as_u64().unwrap();
        let (c, l) = (number("hidden_size"), number("num_hidden_layers"));
        let f = (c * 8 / 3).next_multiple_of(64);
        let parameters = 2 * 32_000 * c + l * (4 * c * c + 3 * c * f + 2 * c) + c;
        assert_eq!(number("parameters"), parameters, "{row}");
        assert!((5 * 4 * parameters..=number("memory_bytes")).contains(&number("planned_bytes")), "{row}");
        let last = &mut last[usize::from(number("batch_size") > 1)];
        assert!(parameters > *last, "{row}");
        *last = parameters;
    }
}

#[test]
fn an_unknown_preset_is_refused_cpu() {
    Place::new().run("bench --adapter cpu --preset tiny").refused(&["model.preset", "expected", "\"tiny\""]);
}
