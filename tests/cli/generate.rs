//! `evenkeel generate`.

use std::{io::Write, process::Stdio};

use serde_json::Value;

use crate::place::{Finished, Place, gpu};

const MODEL: &str = "run/checkpoints/step-000004";

fn trained() -> Place {
    let place = Place::new();
    place.train_tiny("run", "").succeeded();
    place
}

fn generate(place: &Place, adapter: &str, more: &str) -> Finished {
    place.run(&format!("generate --adapter {adapter} --model {MODEL} {more}"))
}

fn text(place: &Place, adapter: &str, more: &str) -> Vec<u8> {
    generate(place, adapter, &format!("--prompt Once --ignore-eos {more}")).succeeded().stdout_bytes().to_vec()
}

fn rows(finished: Finished) -> Vec<Value> {
    finished.succeeded().stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn generates(adapter: &str) {
    let place = trained();
    let once = text(&place, adapter, "--max-new-tokens 20 --seed 3");
    assert!(once.starts_with(b"Once"), "{once:?}");
    // The prompt, a byte for each token, and the end of the line.
    assert_eq!(once.len(), 4 + 20 + 1);
    assert_eq!(text(&place, adapter, "--max-new-tokens 20 --seed 3"), once);
    assert_ne!(text(&place, adapter, "--max-new-tokens 20 --seed 4"), once);
    let likeliest = text(&place, adapter, "--max-new-tokens 10 --temperature 0 --seed 3");
    assert_eq!(text(&place, adapter, "--max-new-tokens 10 --temperature 0 --seed 4"), likeliest);
    assert_eq!(text(&place, adapter, "--max-new-tokens 10 --top-k 1"), likeliest);
    assert_eq!(text(&place, adapter, "--max-new-tokens 0"), b"Once\n");
    let none = generate(&place, adapter, "--prompt Once --max-new-tokens 0 --json").succeeded();
    assert!(none.stdout().contains(r#""end":"length""#) && !none.stderr().contains("full"), "{none:?}");
    let full = generate(&place, adapter, "--prompt Once --ignore-eos --max-new-tokens 40 --seed 3").succeeded();
    assert!(full.stderr().contains("the context is full: prompt 1 has 32 tokens"), "{}", full.stderr());
    assert_eq!(full.stdout_bytes().len(), 32 + 1);
    assert!(full.stdout_bytes().starts_with(once.trim_ascii_end()));
}

#[test]
fn equal_seeds_give_equal_texts_cpu() {
    generates("cpu");
}

#[test]
fn equal_seeds_give_equal_texts_gpu() {
    generates(gpu());
}

/// Without a tokenizer a model is one of bytes, which is said; one with more ids than the model has is another model's.
#[test]
fn a_tokenizer_that_is_missing_or_does_not_fit_is_told_cpu() {
    let place = trained();
    place.write("text.txt", "once upon a time, ".repeat(200));
    place.run("tokenizer train --data text.txt --vocab 280 --out other.json").succeeded();
    std::fs::copy(place.path("other.json"), place.path(format!("{MODEL}/tokenizer.json"))).unwrap();
    let prompt = "--prompt Once --max-new-tokens 1";
    generate(&place, "cpu", prompt).refused(&["expected at most the model's 128 ids, got "]);
    std::fs::remove_file(place.path(format!("{MODEL}/tokenizer.json"))).unwrap();
    let told = generate(&place, "cpu", prompt).succeeded();
    assert!(told.stderr().contains("no tokenizer.json"), "{}", told.stderr());
}

/// More prompts than are continued at the same time, on the command line and in a file.
fn batches(adapter: &str) {
    let place = trained();
    let prompts: Vec<String> = (0..10).map(|i| format!("Prompt{}", "x".repeat(i))).collect();
    place.write("prompts.txt", format!("{}\n\n", prompts[1..].join("\n")));
    let all = format!("--prompt {} --prompts-file prompts.txt --ignore-eos --max-new-tokens 9 --seed 5", prompts[0]);
    let batch = rows(generate(&place, adapter, &format!("{all} --json")));
    assert_eq!(batch.len(), prompts.len());
    let mut plain = Vec::new();
    for (i, (prompt, row)) in prompts.iter().zip(&batch).enumerate() {
        let keys: Vec<_> = row.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["prompt", "text", "tokens", "end"]);
        assert_eq!(
            (&row["prompt"], &row["tokens"], &row["end"]),
            (&prompt.as_str().into(), &9.into(), &"length".into())
        );
        plain.push(format!("{prompt}{}\n", row["text"].as_str().unwrap()));
        if i % 4 == 0 {
            let alone =
                generate(&place, adapter, &format!("--prompt {prompt} --ignore-eos --max-new-tokens 9 --seed 5"));
            assert_eq!(alone.succeeded().stdout(), plain[i]);
        }
    }
    assert_eq!(generate(&place, adapter, &all).succeeded().stdout(), plain.join("\n"));
}

#[test]
fn a_text_does_not_depend_on_the_batch_cpu() {
    batches("cpu");
}

#[test]
fn a_text_does_not_depend_on_the_batch_gpu() {
    batches(gpu());
}

#[test]
fn a_stop_string_ends_a_text_cpu() {
    let place = trained();
    let whole = rows(generate(&place, "cpu", "--prompt Once --ignore-eos --max-new-tokens 25 --seed 3 --json"));
    let whole = whole[0]["text"].as_str().unwrap();
    assert!(whole.is_ascii());
    // Two bytes, which are two tokens, from the middle; their first occurrence counts.
    let middle = (8..20).find(|&i| !whole[i..i + 2].contains(char::is_whitespace)).unwrap();
    let stop = &whole[middle..middle + 2];
    let expected = &whole[..whole.find(stop).unwrap()];
    let command = |more: &[&str]| {
        let base = ["generate", "--adapter", "cpu", "--model", MODEL, "--prompt", "Once", "--max-new-tokens", "25"];
        let arguments =
            base.iter().copied().chain(["--ignore-eos", "--seed", "3", "--stop", stop]).chain(more.iter().copied());
        Finished::of(place.command(arguments))
    };
    let row = rows(command(&["--stop", "neverever", "--json"])).remove(0);
    assert_eq!((&row["text"], &row["end"]), (&expected.into(), &"stop".into()));
    assert_eq!(row["tokens"], expected.len() + 2);
    assert_eq!(command(&[]).succeeded().stdout(), format!("Once{expected}\n"));
    // What may begin a stop string and does not go on belongs to the text.
    let beginning = format!("{}never", whole.chars().last().unwrap());
    let base = ["generate", "--adapter", "cpu", "--model", MODEL, "--prompt", "Once", "--max-new-tokens", "25"];
    let more = ["--ignore-eos", "--seed", "3", "--json", "--stop", &beginning];
    let row = rows(Finished::of(place.command(base.into_iter().chain(more)))).remove(0);
    assert_eq!((&row["text"], &row["end"]), (&whole.into(), &"length".into()));
}

/// A text that ends within a character shows that something is there.
#[test]
fn a_torn_character_at_the_end_is_shown_cpu() {
    let place = Place::new();
    place.train_tiny("run", "--set model.vocab_size=256").succeeded();
    let prompts: Vec<String> = (0..40).map(|i| format!("p{i}")).collect();
    place.write("prompts.txt", prompts.join("\n"));
    let texts = rows(generate(&place, "cpu", "--prompts-file prompts.txt --ignore-eos --max-new-tokens 1 --json"));
    assert!(texts.iter().all(|row| row["text"].as_str().unwrap().chars().count() == 1), "{texts:?}");
    assert!(texts.iter().any(|row| row["text"] == "\u{fffd}"), "{texts:?}");
}

/// An untrained model takes all of its tokens for about equally likely, that which ends a text as well.
#[test]
fn the_end_token_ends_a_text_and_an_empty_prompt_begins_one_cpu() {
    let place = Place::new();
    place.write("book.txt", "one and two and three and many more of the same. ".repeat(30));
    place.train_tiny("run", "--data book.txt --tokenizer bpe --set model.vocab_size=320 --steps 4").succeeded();
    let prompts: Vec<String> = (0..60).map(|i| format!("{i} and")).collect();
    place.write("prompts.txt", prompts.join("\n"));
    let ended = |more: &str| {
        let given = format!("--prompts-file prompts.txt --temperature 1 --max-new-tokens 20 --json {more}");
        let rows = rows(generate(&place, "cpu", &given));
        assert!(rows.iter().all(|row| !row["text"].as_str().unwrap().contains("endoftext")));
        rows.iter().filter(|row| row["end"] == "end_token").count()
    };
    // 60 texts of up to 20 tokens out of about 300.
    assert!((1..20).contains(&ended("")) && ended("--ignore-eos") == 0);
    let of = |prompt: &str| {
        let base = ["generate", "--adapter", "cpu", "--model", MODEL, "--temperature", "0", "--max-new-tokens", "9"];
        let row = rows(Finished::of(place.command(base.into_iter().chain(["--json", "--prompt", prompt])))).remove(0);
        (row["text"].clone(), row["tokens"].clone())
    };
    assert_eq!(of(""), of("<|endoftext|>"));
    assert_ne!(of(""), of("many"));
}

#[test]
fn prompts_come_from_standard_input_cpu() {
    let place = trained();
    let piped = |lines: &str| {
        let mut command = place.command(["generate", "--adapter", "cpu", "--model", MODEL, "--max-new-tokens", "9"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = piped("One day\n\nThe end\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let one_by_one = ["One day", "The end"].map(|prompt| {
        let base = ["generate", "--adapter", "cpu", "--model", MODEL, "--max-new-tokens", "9", "--prompt", prompt];
        Finished::of(place.command(base)).succeeded().stdout()
    });
    assert_eq!(String::from_utf8_lossy(&output.stdout), one_by_one.concat());
    generate(&place, "cpu", "").refused(&["--prompt", "--prompts-file", "standard input"]);
}

#[test]
fn stats_tell_prefill_from_decode_cpu() {
    let place = trained();
    let stats = generate(&place, "cpu", "--prompt Once --ignore-eos --max-new-tokens 20 --stats").succeeded().stderr();
    let line = stats.lines().last().unwrap();
    assert!(line.starts_with("prefill 4 tokens in ") && line.contains("; decode 19 tokens in "), "{line}");
    assert_eq!(line.matches("tokens/s").count(), 2, "{line}");
}

#[test]
fn arguments_are_checked_cpu() {
    let place = trained();
    let refused = |more: &str, parts: &[&str]| {
        generate(&place, "cpu", more).refused(parts);
    };
    refused("--prompt é", &["prompt 1", "195", "vocab_size 128"]);
    refused(&format!("--prompt {}", "x".repeat(33)), &["prompt 1", "1 to 32 tokens", "33"]);
    refused("--prompt a --temperature nan", &["--temperature", "NaN"]);
    refused("--prompt a --temperature -1", &["--temperature", "-1"]);
    refused("--prompt a --top-p 0", &["--top-p", "0"]);
    refused("--prompt a --top-p 1.5", &["--top-p", "1.5"]);
    refused("--prompt a --min-p -0.1", &["--min-p", "-0.1"]);
    refused("--prompt a --repetition-penalty 0", &["--repetition-penalty", "0"]);
    refused("--prompt a --stop=", &["--stop", "empty"]);
    refused("--prompt a --context 33", &["--context", "1 to 32", "33"]);
    refused("--prompts-file nowhere.txt", &["nowhere.txt"]);
    place.write("empty.txt", "\n\n");
    refused("--prompts-file empty.txt", &["empty.txt", "got none"]);
    place.run("generate --adapter cpu --model nowhere --prompt a").refused(&["nowhere"]);
}
