//! `evenkeel pretrain --profile`.

use serde_json::Value;

use crate::place::{Place, gpu};

/// Names of the kernels between two headings of `schedule dump`, in their order.
fn scheduled(place: &Place, adapter: &str) -> Vec<String> {
    let dump = place.run(&format!("schedule dump --adapter {adapter} --config tiny.toml")).succeeded().stdout();
    let trained = dump.split_once("-- forward-backward\n").unwrap().1.split_once("\n-- snapshot").unwrap().0;
    let lines = trained.lines().filter(|line| !line.starts_with("--") && !line.is_empty());
    lines.map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
}

fn spans(trace: &Value, thread: u64) -> Vec<&Value> {
    let events = trace["traceEvents"].as_array().unwrap().iter();
    events.filter(|event| event["ph"] == "X" && event["tid"] == thread).collect()
}

fn profiles_three_steps(adapter: &str) {
    let place = Place::new();
    let train = |run: &str, more: &str| {
        place
            .run(&format!("pretrain --adapter {adapter} --config tiny.toml --steps 5 --out {run} {more}"))
            .succeeded()
            .stdout()
    };
    train("plain", "");
    let tables = train("profiled", "--profile");
    let weights = "checkpoints/step-000005/model.safetensors";
    assert!(place.read(format!("plain/{weights}")) == place.read(format!("profiled/{weights}")), "other weights");
    let trace = place.json("profiled/trace.json");
    let kernels = spans(&trace, 1);
    let names: Vec<_> = kernels.iter().map(|event| event["name"].as_str().unwrap()).collect();
    let expected = scheduled(&place, adapter);
    assert_eq!(names, [&expected[..], &expected[..], &expected[..]].concat());
    // One after another, within their step; microseconds, rounded to f64.
    let [start, duration] = ["ts", "dur"].map(|key| move |event: &Value| event[key].as_f64().unwrap());
    let ends = |event: &Value| start(event) + duration(event);
    assert!(kernels.windows(2).all(|pair| ends(pair[0]) <= start(pair[1]) + 1e-3), "kernels overlap");
    let steps = spans(&trace, 3);
    assert_eq!(
        steps.iter().map(|step| step["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["step 2", "step 3", "step 4"]
    );
    for (step, kernels) in steps.iter().zip(kernels.chunks(expected.len())) {
        assert!(start(kernels[0]) >= start(step) - 1e-3 && ends(kernels[kernels.len() - 1]) <= ends(step) + 1e-3);
    }
    // Of the last step, which is none of the profiled ones.
    for line in ["batch, made and written", "kernels recorded", "inside of submits"] {
        assert!(tables.split_once("host, without a profile").unwrap().1.contains(line), "{tables}");
    }
    // The table's counts are those of the schedule, and its times those of the trace, to their three digits.
    let adamw = tables.lines().find(|line| line.starts_with("adamw ")).unwrap();
    let columns: Vec<f64> = adamw.split_whitespace().skip(1).take(2).map(|word| word.parse().unwrap()).collect();
    let of_adamw: Vec<_> = kernels.iter().filter(|event| event["name"] == "adamw").collect();
    let mean = of_adamw.iter().map(|event| duration(event)).sum::<f64>() / 3.0 / 1e3;
    assert_eq!(columns[0], of_adamw.len() as f64 / 3.0);
    assert!((columns[1] - mean).abs() <= 5.1e-4, "{adamw}: expected {mean} ms");
}

#[test]
fn a_profile_names_every_kernel_cpu() {
    profiles_three_steps("cpu");
}

#[test]
fn a_profile_names_every_kernel_gpu() {
    profiles_three_steps(gpu());
}

#[test]
fn a_run_too_short_for_a_profile_says_so_cpu() {
    let place = Place::new();
    let done = place.train_tiny("run", "--steps 1 --profile").succeeded();
    assert!(done.stderr().contains("profile: expected at least two steps, got fewer"), "{}", done.stderr());
}
