//! `evenkeel generate`.

use crate::place::{Place, gpu};

fn text(place: &Place, adapter: &str, more: &str) -> Vec<u8> {
    let model = "run/checkpoints/step-000004";
    let arguments = format!("generate --adapter {adapter} --model {model} --prompt Once {more}");
    place.run(&arguments).succeeded().stdout_bytes().to_vec()
}

fn generates(adapter: &str) {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    // More than the 32 positions of the model.
    let once = text(&place, adapter, "--max-new-tokens 40 --seed 3");
    assert!(once.starts_with(b"Once"), "{once:?}");
    // The prompt, a byte for each token, and the end of the line.
    assert_eq!(once.len(), 4 + 40 + 1);
    assert_eq!(text(&place, adapter, "--max-new-tokens 40 --seed 3"), once);
    assert_ne!(text(&place, adapter, "--max-new-tokens 40 --seed 4"), once);
    let likeliest = text(&place, adapter, "--max-new-tokens 10 --temperature 0 --seed 3");
    assert_eq!(text(&place, adapter, "--max-new-tokens 10 --temperature 0 --seed 4"), likeliest);
    assert_eq!(text(&place, adapter, "--max-new-tokens 0"), b"Once\n");
}

#[test]
fn equal_seeds_give_equal_texts_cpu() {
    generates("cpu");
}

#[test]
fn equal_seeds_give_equal_texts_gpu() {
    generates(gpu());
}

#[test]
fn prompts_and_temperatures_are_checked_cpu() {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    let generate = "generate --adapter cpu --model run/checkpoints/step-000004 --prompt";
    place.run(&format!("{generate} é")).refused(&["--prompt", "195", "vocab_size 128"]);
    place.run(&format!("{generate} a --temperature nan")).refused(&["--temperature", "NaN"]);
    place.run(&format!("{generate} a --temperature=-1")).refused(&["--temperature", "-1"]);
    place.run("generate --adapter cpu --model nowhere --prompt a").refused(&["nowhere"]);
}
