//! The README's five recipes, word for word but for their length, each after the other as a newcomer would take them.

use std::{fs, process::Command};

use crate::{
    place::{Finished, Place},
    resume::wait_for_rows,
};

/// Steps of every run: enough for a kill to come before the last.
const STEPS: usize = 30;

/// The commands of the README's first block of recipes, without `evenkeel` and without comments.
fn recipes() -> Vec<Vec<String>> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, after) = readme.split_once("## Recipes\n").unwrap();
    let (block, _) = after.split_once("and more:").unwrap();
    let command = |line: &str| -> Vec<String> {
        let (command, _) = line.split_once(" # ").unwrap_or((line, ""));
        let mut words = command.split_whitespace().map(|word| word.replace('\'', ""));
        assert_eq!(words.next().unwrap(), "evenkeel", "{line}");
        words.collect()
    };
    block.lines().filter(|line| !line.trim().is_empty()).map(command).collect()
}

/// A recipe on the CPU executor with more arguments; its own number of steps is made small.
fn command(place: &Place, recipe: &[String], more: &str) -> Command {
    let mut words: Vec<String> = recipe.to_vec();
    let steps = words.iter().position(|word| word == "--steps");
    match steps {
        Some(at) => words[at + 1] = STEPS.to_string(),
        None if !words.contains(&"--resume".to_owned()) => words.extend(["--steps".to_owned(), STEPS.to_string()]),
        None => {}
    }
    words.extend("--adapter cpu".split(' ').chain(more.split_whitespace()).map(str::to_owned));
    place.command(&words)
}

fn run(place: &Place, recipe: &[String], more: &str) -> Finished {
    Finished::of(command(place, recipe, more)).succeeded()
}

fn loss_falls(place: &Place, run: &str) {
    let losses: Vec<f64> = place.metrics(run).iter().filter_map(|row| row["loss"].as_f64()).collect();
    assert_eq!(losses.len(), STEPS, "{run}");
    assert!(losses[STEPS - 1] < losses[0], "{run}: expected a loss that falls, got {losses:?}");
    assert!(place.path(format!("{run}/checkpoints/step-{STEPS:06}/model.safetensors")).is_file());
}

#[test]
fn the_recipes_of_the_readme_do_what_they_say_cpu() {
    let place = Place::new();
    let recipes = recipes();
    let [default, own_text, kat, fine_tune, resume] = &recipes[..] else { panic!("expected 5 recipes: {recipes:?}") };
    let small = "--set train.batch_size=2 --set schedule.warmup_steps=0";

    let told = run(&place, default, &format!("--out runs/default {small}")).stdout();
    loss_falls(&place, "runs/default");
    assert!(told.len() > 20, "expected a sample, got {told:?}");

    let sentence =
        |i: usize| format!("On day {i} the {} went to the {}.\n", ["fox", "owl", "cat"][i % 3], ["sea", "wood"][i % 2]);
    place.write("book.txt", (0..3000).map(sentence).collect::<String>());
    // It is killed, and goes on.
    let mut child = command(&place, own_text, &format!("--set train.checkpoint_every=1 {small}")).spawn().unwrap();
    wait_for_rows(&place, "runs/book", 3, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = run(&place, resume, "").stderr();
    assert!(resumed.contains("going on after step"), "{resumed}");
    loss_falls(&place, "runs/book");

    run(&place, kat, &format!("--out runs/kat {small}"));
    loss_falls(&place, "runs/kat");
    assert_eq!(place.json(format!("runs/kat/checkpoints/step-{STEPS:06}/config.json"))["model_type"], "kat");

    place.run("export --model runs/book --out llama-folder --dtype bf16").succeeded();
    place.write("more.txt", (3000..6000).map(sentence).collect::<String>());
    run(&place, fine_tune, &format!("--out runs/more --set train.seq_len=64 {small}"));
    loss_falls(&place, "runs/more");
    let embedding = |folder: &str| {
        let file = place.read(format!("{folder}/model.safetensors"));
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        tensors.tensor("model.embed_tokens.weight").unwrap().data().to_vec()
    };
    // bf16 is the upper half of f32: what is frozen keeps its bits.
    let exported = embedding("llama-folder");
    let widened: Vec<u8> = exported.chunks(2).flat_map(|half| [0, 0, half[0], half[1]]).collect();
    assert!(widened == embedding(&format!("runs/more/checkpoints/step-{STEPS:06}")), "expected a frozen embedding");
}
