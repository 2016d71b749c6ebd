//! `evenkeel report`: what the page says. How it looks is for `assets/report/look.py`.

use serde_json::Value;

use crate::place::Place;

fn page(place: &Place, arguments: &str) -> String {
    place.run(&format!("report {arguments} --out page.html")).succeeded();
    let text = String::from_utf8(place.read("page.html")).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && text.ends_with("</html>"), "{text}");
    // Nothing is fetched: no address but the empty icon's.
    let addresses = ["src=", "http://", "https://", "url(", "@import", "fetch("];
    assert!(addresses.iter().all(|address| !text.contains(address)) && text.contains("href=\"data:,\""), "{text}");
    assert!(!text.contains("NaN") && !text.contains("inf,") && !text.contains("undefined"), "{text}");
    text
}

/// The part of the page from the section `id` to the next one.
fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, after) = page.split_once(&format!("<section id=\"{id}\"")).unwrap();
    after.split_once("</section>").unwrap().0
}

#[test]
fn a_page_shows_what_two_runs_came_to_cpu() {
    let place = Place::new();
    place.train_tiny("a<b", "--steps 120 --set instruments.interval=40 --set train.eval_every=60").succeeded();
    place
        .train_tiny(
            "other",
            "--steps 120 --set instruments.interval=40 --set train.eval_every=60 --set optimizer.lr=0.004",
        )
        .succeeded();
    let text = page(&place, "a<b other");
    assert!(text.contains("a&lt;b") && !text.contains("a<b"));
    let settings = section(&text, "settings");
    let (_, row) = settings.split_once("<tr class=\"differs\">").unwrap();
    assert!(row.starts_with("<th scope=\"row\">optimizer.lr"), "{row}");
    assert!(row.contains("<td>0.002</td><td>0.004</td></tr>"), "{row}");
    assert_eq!(settings.matches("class=\"differs\"").count(), 1, "{settings}");
    let rows = place.metrics("other");
    let last = rows.iter().rev().find_map(|row| row["loss"].as_f64()).unwrap();
    assert!(section(&text, "summary").contains(&format!("<td>{last:.3} at step 120</td>")));
    // For each run: every step, the mean of them, and the validation.
    assert_eq!(section(&text, "loss").matches("<polyline").count(), 2 * 3);
    for title in ["Learning rate", "Gradient norm", "Throughput"] {
        assert!(section(&text, "course").contains(&format!("<h3>{title}</h3>")));
    }
    // Seven matrices of one layer, a line for the first and one for the last time they were measured.
    let layers = section(&text, "layers");
    assert_eq!(layers.matches("<figure").count(), 7);
    let first = &rows.iter().find(|row| row.get("weights").is_some()).unwrap()["weights"];
    let std = first["model.layers.0.mlp.up_proj.weight"]["std"].as_f64().unwrap();
    assert!(layers.contains(&format!("{std:.5}")), "{std} {layers}");
    assert_eq!(section(&text, "weights").matches("<figure").count(), 2 * 9);
    assert_eq!(section(&text, "activations").matches("<figure").count(), 2 * 3);
    assert!(text.matches("<details>").count() >= 30, "every figure has a table");
}

#[test]
fn a_page_leaves_out_what_is_broken_and_says_so_cpu() {
    let place = Place::new();
    place.train_tiny("run", "--set instruments.interval=0").succeeded();
    let rows = String::from_utf8(place.read("run/metrics.jsonl")).unwrap();
    let broken = rows.replacen('\n', "\n{\"step\": 2, \"lo\n[]\n{\"step\":3,\"grad_norm\":null}\n", 1);
    place.write("run/metrics.jsonl", format!("{broken}{{\"step\":9"));
    let finished = place.run("report run").succeeded();
    let notes: Vec<String> = finished.stderr().lines().map(str::to_owned).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("metrics.jsonl") && notes[0].contains("line 2"), "{notes:?}");
    assert_eq!(finished.stdout(), "wrote report.html\n");
    let text = page(&place, "run");
    assert!(text.contains("Left out: ") && text.contains("instruments.interval turns them on"));
    // Before the first step and the first checkpoint.
    place.write("run/metrics.jsonl", "");
    std::fs::remove_dir_all(place.path("run/checkpoints")).unwrap();
    let text = page(&place, "run run");
    assert!(text.contains("No step yet") && text.contains("step 0 of 4"), "{text}");
}

#[test]
fn what_is_no_run_is_refused_cpu() {
    let place = Place::new();
    place.run("report nowhere").refused(&["nowhere", "run.toml", "nothing there", "evenkeel pretrain"]);
    place.run("report tiny.toml").refused(&["tiny.toml", "a file"]);
    place.run("report .").refused(&["a folder without it"]);
    place.run("report").refused(&[]);
    place.train_tiny("run", "").succeeded();
    place.run("report run --out nowhere/page.html").refused(&["nowhere/page.html"]);
    place.write("run/run.toml", "[train]\nsteps = 0\n");
    place.run("report run").refused(&["train.steps"]);
    let _: Value = place.json("run/checkpoints/step-000004/trainer.json");
}
