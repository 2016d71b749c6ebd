//! Runs whose numbers leave the range of f32.

use serde_json::Value;

use crate::place::{Place, gpu};

/// One step with this learning rate gives weights that the checkpoint can hold and the next step cannot compute with.
pub(crate) const TOO_FAST: &str = "--set optimizer.lr=1e18 --set schedule.kind=constant --set schedule.warmup_steps=0 \
                        --set optimizer.weight_decay=0 --set train.checkpoint_every=1";

fn stops(adapter: &str) {
    let place = Place::new();
    let arguments = format!("pretrain --adapter {adapter} --config tiny.toml --out run {TOO_FAST}");
    let parts = ["step 2", "loss", "NaN", "written by", "layers.0.", "evenkeel pretrain --resume run", "after step 1"];
    place.run(&arguments).refused(&parts);
    assert_eq!(place.list("run/checkpoints"), ["step-000001"]);
    assert_eq!(place.list("run/.partial"), [""; 0]);
    assert_eq!(place.metrics("run").len(), 1);
    // It is a good one: it goes on from there, to the same end.
    place.run(&format!("pretrain --adapter {adapter} --resume run")).refused(&parts);
    assert_eq!(place.list("run/checkpoints"), ["step-000001"]);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_cpu() {
    stops("cpu");
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_gpu() {
    stops(gpu());
}

#[test]
fn weights_that_are_not_finite_are_not_saved_cpu() {
    let place = Place::new();
    // Decay by more than the largest f32.
    let decay = "--steps 1 --set optimizer.lr=1e38 --set optimizer.weight_decay=1e38";
    let stderr = place.train_tiny("run", decay).refused(&["weight", "finite", "lower optimizer.lr"]).stderr();
    assert!(!stderr.contains("--resume"), "{stderr}");
    assert_eq!(place.list("run/checkpoints"), [""; 0]);
}

#[test]
fn an_update_without_a_finite_norm_is_skipped_cpu() {
    let place = Place::new();
    // Activations of 1e25 have squares beyond f32: the loss is finite, the norm is not.
    let ended = place.train_tiny("run", "--steps 2 --set init.std=1e30 --set train.checkpoint_every=1");
    assert!(ended.stderr().contains("step 1: the gradient norm is not finite, the update was skipped"));
    // Nothing is saved that the run could go on from to another end.
    let stderr = ended.refused(&["step 2", "finite gradient norm", "2 steps in a row", "init.std"]).stderr();
    assert!(!stderr.contains("--resume"), "{stderr}");
    assert_eq!(place.list("run/checkpoints"), [""; 0]);
    let one = place.train_tiny("one", "--steps 1 --set init.std=1e30");
    one.refused(&["step 1: expected a finite gradient norm, got 1 step without; nothing is saved yet"]);
    // A run has patience with ten of them.
    let long = place.train_tiny("long", "--steps 30 --set init.std=1e30 --set train.checkpoint_every=1");
    long.refused(&["step 10", "10 steps in a row"]);
    assert_eq!(place.metrics("long").iter().filter(|row| row["skipped"] == true).count(), 10);
}

/// Large weights have gradients that f16 cannot hold 65,536 times: the scale falls until it can, and the run goes on.
#[test]
fn a_loss_scale_that_is_too_large_falls_and_the_run_goes_on_cpu() {
    let place = Place::new();
    let more = "--steps 8 --set train.precision=mixed --set init.std=0.7 --set model.hidden_size=64";
    let ended = place.train_tiny("run", more).succeeded();
    assert!(ended.stderr().contains("the update was skipped; the loss scale falls from 65536 to 32768"));
    let rows: Vec<Value> = place.metrics("run").into_iter().filter(|row| row.get("loss").is_some()).collect();
    assert_eq!(rows.len(), 8);
    let skipped = |row: &Value| row.get("skipped").is_some();
    assert!(rows.iter().any(skipped) && !rows.iter().all(skipped), "{rows:?}");
    for pair in rows.windows(2) {
        let factor = if skipped(&pair[0]) { 0.5 } else { 1.0 };
        assert_eq!(pair[1]["loss_scale"].as_f64(), pair[0]["loss_scale"].as_f64().map(|scale| factor * scale));
        assert_eq!(pair[0]["grad_norm"].is_null(), skipped(&pair[0]));
    }
    let state = place.json("run/checkpoints/step-000008/trainer.json");
    assert_eq!(state["applied_steps"], 8 - rows.iter().filter(|row| skipped(row)).count());
}
