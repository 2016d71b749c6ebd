//! TensorBoard's event files, read by what its formats say.

use std::{fs, path::PathBuf};

use crate::{place::Place, resume::wait_for_rows};

const SETTINGS: &str = "--set instruments.interval=5 --set train.eval_every=4 --set train.checkpoint_every=7";

/// The event file of a run.
fn event_file(place: &Place, run: &str) -> PathBuf {
    let entries = fs::read_dir(place.path(run)).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = entries.filter(|path| path.to_string_lossy().contains("events.out.tfevents.")).collect();
    let [file] = &files[..] else { panic!("expected one event file, got {files:?}") };
    file.clone()
}

/// Step and tag of every scalar in the event file of a run.
fn scalars(place: &Place, run: &str) -> Vec<(u64, String, f32)> {
    let bytes = fs::read(event_file(place, run)).unwrap();
    let (mut rest, mut found, mut number) = (&bytes[..], Vec::new(), 0);
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let data = &rest[12..12 + length];
        rest = &rest[16 + length..];
        // Field 1: the time.
        let mut event = fields(&data[9..]);
        // A file begins with its version, then the start of a session: what a reader had of the steps is forgotten.
        match number {
            0 => assert_eq!(event, [(0x1a, 13, &b"brain.Event:2"[..])]),
            1 => assert_eq!(event, [(0x3a, 2, &[0x08, 1][..])]),
            _ => assert!(event.iter().any(|(key, ..)| *key == 0x2a), "{event:?}"),
        }
        number += 1;
        let step = event.iter().find(|(key, ..)| *key == 0x10).map_or(0, |(_, number, _)| *number);
        event.retain(|(key, ..)| *key == 0x2a);
        for (_, _, summary) in event {
            for (_, _, value) in fields(summary) {
                let value = fields(value);
                let number = f32::from_le_bytes(value[1].2.try_into().unwrap());
                found.push((step, String::from_utf8(value[0].2.to_vec()).unwrap(), number));
            }
        }
    }
    found
}

/// Key, number and bytes of the fields of a message.
fn fields(mut data: &[u8]) -> Vec<(u8, u64, &[u8])> {
    let mut fields = Vec::new();
    while let Some((&key, rest)) = data.split_first() {
        let end = rest.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let number = rest[..end].iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f));
        let (bytes, after) = match key & 7 {
            0 => (&rest[..0], &rest[end..]),
            2 => rest[end..].split_at(number as usize),
            5 => rest.split_at(4),
            other => panic!("wire type {other}"),
        };
        fields.push((key, number, bytes));
        data = after;
    }
    fields
}

#[test]
fn events_are_the_metrics_also_after_a_kill_cpu() {
    let place = Place::new();
    place.train_tiny("unbroken", &format!("--steps 20 {SETTINGS}")).succeeded();
    let arguments = format!("pretrain --adapter cpu --config tiny.toml --out killed --steps 20000 {SETTINGS}");
    let mut child = place.command(arguments.split_whitespace()).spawn().unwrap();
    // Past the checkpoint of step 14.
    wait_for_rows(&place, "killed", 23, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let longer = String::from_utf8(place.read("killed/run.toml")).unwrap();
    let kept = place.list("killed/checkpoints");
    assert!(kept.len() > 1, "{kept:?}");
    let last = place.metrics("killed").iter().filter_map(|row| row["step"].as_u64()).max().unwrap();
    place.write("killed/run.toml", longer.replace("steps = 20000", &format!("steps = {}", last + 3)));
    let before = event_file(&place, "killed");
    place.run("pretrain --adapter cpu --resume killed").succeeded();
    // TensorBoard reads files by name and does not go back.
    assert!(event_file(&place, "killed") > before, "{}", before.display());
    for run in ["unbroken", "killed"] {
        let (metrics, found) = (place.metrics(run), scalars(&place, run));
        for tag in ["loss", "lr", "grad_norm", "tokens_per_s", "valid_loss"] {
            let ours: Vec<_> =
                found.iter().filter(|(_, name, _)| name == tag).map(|(step, _, y)| (*step, *y)).collect();
            let rows = metrics.iter().filter_map(|row| Some((row["step"].as_u64()?, row.get(tag)?.as_f64()? as f32)));
            assert_eq!(ours, rows.collect::<Vec<_>>(), "{run}: {tag}");
            assert!(!ours.is_empty());
        }
        let measured = metrics.iter().filter(|row| row.get("weights").is_some()).count();
        let of = |start: &str| found.iter().filter(|(_, name, _)| name.starts_with(start)).count();
        assert_eq!(of("weight_std/"), measured * 9);
        assert_eq!(of("residual_stream_absmax/"), measured * 2);
    }
}

/// However the clock stands: a reader follows the names.
#[test]
fn a_later_event_file_has_a_later_name_cpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    fs::remove_dir_all(place.path("run/checkpoints/step-000004")).unwrap();
    let at = |second: u64| place.path(format!("run/events.out.tfevents.{second:010}.evenkeel"));
    fs::rename(event_file(&place, "run"), at(4_000_000_000)).unwrap();
    place.run("pretrain --adapter cpu --resume run").succeeded();
    assert_eq!(event_file(&place, "run"), at(4_000_000_001));
    assert_eq!(scalars(&place, "run").iter().filter(|(_, tag, _)| tag == "loss").count(), 4);
}

#[test]
fn a_run_from_before_event_files_gets_one_cpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    let before = scalars(&place, "run");
    fs::remove_dir_all(place.path("run/checkpoints/step-000004")).unwrap();
    for entry in fs::read_dir(place.path("run")).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.to_string_lossy().contains("tfevents") {
            fs::remove_file(entry).unwrap();
        }
    }
    place.run("pretrain --adapter cpu --resume run").succeeded();
    let without_rates = |scalars: Vec<(u64, String, f32)>| {
        scalars.into_iter().filter(|(_, tag, _)| tag != "tokens_per_s").collect::<Vec<_>>()
    };
    assert_eq!(without_rates(scalars(&place, "run")), without_rates(before));
}
