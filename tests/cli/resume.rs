//! Runs that are killed, stopped, and gone on with.

use std::{
    fs,
    process::{Child, Command},
    thread::sleep,
    time::{Duration, Instant},
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde_json::Value;

use crate::place::{Finished, Place, gpu};

const KILLS: usize = 5;
/// Steps enough for all kills: each waits for at most 8 rows more than the run had.
const STEPS: usize = 60;
/// Long enough for a slow machine to compile kernels.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until the metrics of `run` have `rows` lines.
pub(crate) fn wait_for_rows(place: &Place, run: &str, rows: usize, child: &mut Child) {
    let start = Instant::now();
    let lines = || {
        fs::read(place.path(format!("{run}/metrics.jsonl")))
            .map_or(0, |text| text.split(|&byte| byte == b'\n').count() - 1)
    };
    while lines() < rows {
        assert!(start.elapsed() < PATIENCE, "{run}: expected {rows} rows of metrics, got {}", lines());
        assert!(child.try_wait().unwrap().is_none(), "{run}: ended before row {rows}");
        sleep(Duration::from_micros(300));
    }
}

fn metrics_without_rates(place: &Place, run: &str) -> Vec<Value> {
    let mut rows = place.metrics(run);
    for row in &mut rows {
        row.as_object_mut().unwrap().remove("tokens_per_s");
    }
    rows
}

/// Large enough for a kill to hit any part of a step or of a checkpoint.
const LARGER: &str = "--set model.hidden_size=64 --set train.batch_size=4 --set train.eval_every=4 --set train.sample_every=5 \
                      --set train.checkpoint_every=3 --set train.keep_checkpoints=2";

/// Trains once unbroken and once killed at random moments; both must end in the same bits.
fn killed_and_resumed(adapter: &str, more: &str, seed: u64) -> Place {
    let place = Place::new();
    let settings = format!("--adapter {adapter} --config tiny.toml --steps {STEPS} {LARGER}{more}");
    place.run(&format!("pretrain {settings} --out unbroken")).succeeded();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |bound: u64| rng.next_u64() % bound;
    let mut arguments = format!("pretrain {settings} --out killed");
    let mut rows = 0;
    for _ in 0..KILLS {
        let mut child = place.command(arguments.split_whitespace()).spawn().unwrap();
        rows += 1 + below(8) as usize;
        wait_for_rows(&place, "killed", rows, &mut child);
        sleep(Duration::from_micros(below(4000)));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "expected a killed run, got a finished one");
        rows = fs::read_to_string(place.path("killed/metrics.jsonl")).unwrap().lines().count();
        arguments = format!("pretrain --adapter {adapter} --resume killed");
    }
    let last = place.run(&arguments).succeeded().stderr();
    assert!(last.contains("going on after step"), "{last}");
    assert_ended_alike(&place);
    place
}

/// Whether the runs `killed` and `unbroken` left the same rows, samples and checkpoints.
fn assert_ended_alike(place: &Place) {
    let [killed, unbroken] = ["killed", "unbroken"].map(|run| metrics_without_rates(place, run));
    // Row by row: the first that differs says where the bits part.
    for (killed, unbroken) in killed.iter().zip(&unbroken) {
        assert_eq!(killed, unbroken);
    }
    assert_eq!(killed.len(), unbroken.len());
    let samples = |run| String::from_utf8(place.read(format!("{run}/samples.jsonl"))).unwrap();
    assert_eq!(samples("killed"), samples("unbroken"));
    assert_eq!(place.list("killed"), place.list("unbroken"));
    assert_eq!(place.list("killed/.partial"), [""; 0]);
    let checkpoints = place.list("unbroken/checkpoints");
    assert_eq!(place.list("killed/checkpoints"), checkpoints);
    for checkpoint in checkpoints {
        for file in ["model.safetensors", "optimizer.safetensors", "trainer.json"] {
            let of = |run| place.read(format!("{run}/checkpoints/{checkpoint}/{file}"));
            assert!(
                of("killed") == of("unbroken"),
                "{checkpoint}/{file}: expected the unbroken run's bytes, got others"
            );
        }
    }
}

const MANY_KILLS: usize = 20;
/// Kills that must have come while a checkpoint was written.
const TORN_CHECKPOINTS: usize = 3;

/// Everything that goes on after a kill at once: accumulation, TVR, NovoGrad, a frozen part, the best checkpoint. Of
/// twenty kills the odd ones come at a random moment, the even ones as soon as a checkpoint is seen to grow.
#[test]
fn twenty_kills_also_within_checkpoints_leave_no_trace_cpu() {
    let place = Place::new();
    place.train_tiny("first", "--set model.hidden_size=128 --set model.vocab_size=1024 --steps 1").succeeded();
    // A checkpoint of 1.5 MB after every second step, written for as long as these steps take.
    let settings = "--adapter cpu --steps 120 --set model.from=first --set model.freeze=['lm_head'] \
                    --set train.batch_size=1 --set train.seq_len=8 --set train.grad_accumulation=2 \
                    --set train.eval_every=3 --set train.checkpoint_every=2 --set train.keep_checkpoints=2 --set train.sample_every=7 \
                    --set optimizer.kind=novograd --set optimizer.no_decay=['o_proj'] --set schedule.kind=wsd \
                    --set tvr.enabled=true --set tvr.interval=7 --set tvr.target_std=0.01";
    place.run(&format!("pretrain {settings} --out unbroken")).succeeded();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut below = |bound: u64| rng.next_u64() % bound;
    let mut arguments = format!("pretrain {settings} --out killed");
    let (mut rows, mut torn) = (0, 0);
    for kill in 0..MANY_KILLS {
        let mut child = place.command(arguments.split_whitespace()).spawn().unwrap();
        rows += 1 + below(4) as usize;
        wait_for_rows(&place, "killed", rows, &mut child);
        if kill % 2 == 0 {
            wait_for_a_growing_checkpoint(&place, "killed", &mut child);
        } else {
            sleep(Duration::from_micros(below(4000)));
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "expected a killed run, got a finished one");
        torn += usize::from(!place.list("killed/.partial").is_empty());
        rows = fs::read_to_string(place.path("killed/metrics.jsonl")).unwrap().lines().count();
        arguments = "pretrain --adapter cpu --resume killed".to_owned();
    }
    assert!(torn >= TORN_CHECKPOINTS, "expected {TORN_CHECKPOINTS} kills within a checkpoint, got {torn}");
    // The folder that the run started from is not needed to go on.
    fs::remove_dir_all(place.path("first")).unwrap();
    place.run(&arguments).succeeded();
    assert_ended_alike(&place);
}

/// Waits until a checkpoint of `run` has begun to be written.
fn wait_for_a_growing_checkpoint(place: &Place, run: &str, child: &mut Child) {
    let start = Instant::now();
    let partial = place.path(format!("{run}/.partial"));
    let grows = || {
        let names = fs::read_dir(&partial).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.into_iter().any(|name| name.to_string_lossy().starts_with("step-"))
    };
    while !grows() {
        assert!(start.elapsed() < PATIENCE, "{run}: expected a checkpoint, got none");
        assert!(child.try_wait().unwrap().is_none(), "{run}: ended without another checkpoint");
        sleep(Duration::from_micros(50));
    }
}

#[test]
fn a_killed_run_ends_in_the_unbroken_runs_bits_cpu() {
    killed_and_resumed("cpu", "", 1);
}

#[test]
fn a_killed_run_ends_in_the_unbroken_runs_bits_gpu() {
    killed_and_resumed(gpu(), "", 2);
}

#[test]
fn a_killed_run_in_mixed_precision_ends_in_the_unbroken_runs_bits_gpu() {
    let place = killed_and_resumed(gpu(), " --set train.precision=mixed", 4);
    let rows = place.metrics("killed");
    assert!(rows.iter().filter(|row| row.get("loss").is_some()).all(|row| row["loss_scale"] == 65_536.0), "{rows:?}");
}

/// The scale and its count of good steps are part of a checkpoint: a run goes on with them, whatever they are.
#[test]
fn the_loss_scale_goes_on_as_the_checkpoint_has_it_cpu() {
    let place = Place::new();
    place.train_tiny("run", "--set train.precision=mixed").succeeded();
    fs::remove_dir_all(place.path("run/checkpoints/step-000004")).unwrap();
    let path = "run/checkpoints/step-000002/optimizer.safetensors";
    let mut bytes = place.read(path);
    let body = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..body]).unwrap();
    let at = body + header["optimizer.loss_scale"]["data_offsets"][0].as_u64().unwrap() as usize;
    let words = |scale: f32, good: f32| [scale.to_le_bytes(), good.to_le_bytes()].concat();
    assert_eq!(bytes[at..at + 8], words(65_536.0, 2.0));
    // One good step more, and it doubles.
    bytes[at..at + 8].copy_from_slice(&words(1024.0, 1999.0));
    place.write(path, bytes);
    place.run("pretrain --adapter cpu --resume run").succeeded();
    let scales = place.metrics("run").into_iter().filter_map(|row| row.get("loss_scale")?.as_f64());
    assert_eq!(scales.collect::<Vec<_>>(), [65_536.0, 65_536.0, 1024.0, 2048.0]);
}

#[test]
fn a_killed_kat_with_tvr_ends_in_the_unbroken_runs_bits_cpu() {
    let more = " --set model.arch=kat --set model.rational_groups=2 --set tvr.enabled=true --set tvr.interval=7 \
                --set tvr.target_std=0.01 --set instruments.interval=5";
    let place = killed_and_resumed("cpu", more, 3);
    let rows = place.metrics("killed");
    let fired: Vec<_> =
        rows.iter().filter_map(|row| Some((row["step"].as_u64()?, row["tvr_rescaled"].as_u64()?))).collect();
    assert_eq!(fired.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [8, 15, 22, 29, 36, 43, 50, 57]);
    assert!(fired.iter().any(|(_, rescaled)| *rescaled > 0), "{fired:?}");
    assert_eq!(rows.iter().filter(|row| row.get("weights").is_some()).count(), STEPS / 5);
}

/// A stopped run ends well, with a checkpoint of its last step, and goes on from there.
#[cfg(unix)]
fn stopped_by(signal: &str) {
    let place = Place::new();
    let endless = "pretrain --adapter cpu --config tiny.toml --out run --steps 20000 --set train.checkpoint_every=0";
    let mut child = place.command(endless.split_whitespace()).spawn().unwrap();
    wait_for_rows(&place, "run", 3, &mut child);
    // While it runs nobody else may have its folder.
    place.run("pretrain --adapter cpu --resume run").refused(&["run", "in use by another process"]);
    place.train_tiny("run", "").refused(&["run", "in use by another process"]);
    let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "expected exit status 0 after {signal}, got {}:\n{stderr}", output.status);
    assert!(stderr.contains("evenkeel pretrain --resume run"), "{stderr}");
    let last = place.metrics("run").iter().filter_map(|row| row["step"].as_u64()).max().unwrap();
    assert_eq!(place.list("run/checkpoints"), [format!("step-{last:06}")]);
    let mut child = place.command("pretrain --adapter cpu --resume run".split_whitespace()).spawn().unwrap();
    wait_for_rows(&place, "run", place.metrics("run").len() + 3, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let steps = place.metrics("run").into_iter().filter(|row| row.get("loss").is_some());
    let steps: Vec<u64> = steps.map(|row| row["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>());
}

#[cfg(unix)]
#[test]
fn sigterm_stops_with_a_checkpoint_cpu() {
    stopped_by("-TERM");
}

#[cfg(unix)]
#[test]
fn sigint_stops_with_a_checkpoint_cpu() {
    stopped_by("-INT");
}

/// A second signal ends a run in the middle of a step that would last for minutes.
#[cfg(unix)]
fn ended_by_two(name: &str, number: i32) {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;

    let place = Place::new();
    let long = "pretrain --adapter cpu --config tiny.toml --out run --set train.grad_accumulation=1000000";
    let mut child = place.command(long.split_whitespace()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut after = |text: &str| {
        assert!(lines.any(|line| line.unwrap().contains(text)), "expected {text:?}, got none");
        assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    };
    after("run folder");
    after("stopping after this step");
    assert_eq!(child.wait().unwrap().signal(), Some(number));
    place.has_no_checkpoint();
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_a_run_at_once_cpu() {
    ended_by_two("-INT", 2);
    ended_by_two("-TERM", 15);
}

/// What was begun of the next step is given up, so that the checkpoint can be written.
#[test]
fn a_stopped_run_goes_on_to_the_same_end_gpu() {
    let place = Place::new();
    let run = |more: &str| place.run(&format!("pretrain --adapter {} {more}", gpu())).succeeded();
    let settings = format!("--config tiny.toml {LARGER} --set train.grad_accumulation=3 --steps 6");
    run(&format!("{settings} --out unbroken"));
    run(&format!("{settings} --out killed --max-time 0s"));
    assert_eq!(place.list("killed/checkpoints"), ["step-000001"]);
    run("--resume killed --max-time 0s");
    run("--resume killed");
    assert_eq!(metrics_without_rates(&place, "killed"), metrics_without_rates(&place, "unbroken"));
    let model = |run| place.read(format!("{run}/checkpoints/step-000006/model.safetensors"));
    assert!(model("killed") == model("unbroken"), "expected equal models, got others");
}

#[test]
fn max_time_stops_after_the_step_that_exceeds_it_cpu() {
    let place = Place::new();
    place.train_tiny("unbroken", "").succeeded();
    let first = place.train_tiny("run", "--max-time 0s").succeeded();
    assert!(first.stderr().contains("stopped after step 1:"), "{}", first.stderr());
    assert_eq!(place.list("run/checkpoints"), ["step-000001"]);
    let second = place.run("pretrain --adapter cpu --resume run --max-time 0s").succeeded();
    assert!(second.stderr().contains("goes on after step 2"), "{}", second.stderr());
    assert_eq!(place.list("run/checkpoints"), ["step-000001", "step-000002"]);
    place.run("pretrain --adapter cpu --resume run --max-time 1d").succeeded();
    assert_eq!(metrics_without_rates(&place, "run"), metrics_without_rates(&place, "unbroken"));
    let model = |run| place.read(format!("{run}/checkpoints/step-000004/model.safetensors"));
    assert!(model("run") == model("unbroken"), "expected equal models, got others");
    for wrong in ["soon", "-1s", "5"] {
        place.train_tiny("other", &format!("--max-time={wrong}")).refused(&["--max-time", "90s", wrong]);
    }
}

#[test]
fn a_finished_run_has_nothing_left_to_do_cpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    let contents = || {
        let checkpoint = "run/checkpoints/step-000004";
        let files = place.list(checkpoint).into_iter().map(|file| place.read(format!("{checkpoint}/{file}")));
        (
            place.read("run/metrics.jsonl"),
            place.read("run/run.toml"),
            place.list("run/checkpoints"),
            files.collect::<Vec<_>>(),
        )
    };
    let before = contents();
    let finished = place.run("pretrain --adapter cpu --resume run").succeeded();
    assert!(finished.stderr().contains("nothing left to do"), "{}", finished.stderr());
    assert!(contents() == before, "expected a finished run to stay as it is, got another");
}

#[test]
fn without_a_checkpoint_a_run_begins_again_cpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    let whole = metrics_without_rates(&place, "run");
    fs::remove_dir_all(place.path("run/checkpoints")).unwrap();
    place.run("pretrain --adapter cpu --resume run").succeeded();
    assert_eq!(metrics_without_rates(&place, "run"), whole);
}

#[test]
fn rows_after_the_checkpoint_and_a_torn_one_are_cut_cpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    let whole = metrics_without_rates(&place, "run");
    fs::remove_dir_all(place.path("run/checkpoints/step-000004")).unwrap();
    let mut rows = place.read("run/metrics.jsonl");
    rows.extend(b"{\"step\":5,\"lo");
    place.write("run/metrics.jsonl", rows);
    place.run("pretrain --adapter cpu --resume run").succeeded();
    assert_eq!(metrics_without_rates(&place, "run"), whole);
}

#[test]
fn with_other_data_a_run_does_not_go_on_cpu() {
    let place = Place::new();
    let text = "all work and no play makes jack a dull boy. ".repeat(40);
    place.write("book.txt", &text);
    place.train_tiny("run", "--data book.txt --tokenizer bytes").succeeded();
    let goes_on = || place.run("pretrain --adapter cpu --resume run");
    for changed in [text.replace("jack", "jill"), text[..text.len() - 44].to_owned()] {
        place.write("book.txt", changed);
        goes_on().refused(&["step-000004", "training data", "model.from"]);
    }
    place.write("book.txt", &text);
    goes_on().succeeded();
}

#[test]
fn on_another_adapter_a_run_goes_on_with_a_warning_gpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    fs::remove_dir_all(place.path("run/checkpoints/step-000004")).unwrap();
    let finished = Finished::of(place.command(["pretrain", "--adapter", gpu(), "--resume", "run"])).succeeded();
    assert!(finished.stderr().contains("differ from an unbroken run's"), "{}", finished.stderr());
    assert_eq!(place.list("run/checkpoints"), ["step-000002", "step-000004"]);
}

#[test]
fn what_is_no_run_folder_cannot_be_resumed_cpu() {
    let place = Place::new();
    place.run("pretrain --adapter cpu --resume nowhere").refused(&["nowhere", "run.toml", "`evenkeel pretrain` makes"]);
    place.run("pretrain --adapter cpu --resume tiny.toml").refused(&["tiny.toml", "got a file"]);
    place.run("pretrain --adapter cpu --resume .").refused(&["run.toml"]);
    place.has_no_checkpoint();
}
