//! Text in every form, tokenizers, and preparation, by the real binary.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    thread::sleep,
    time::Duration,
};

use evenkeel_data::Tokenizer;
use flate2::{Compression, write::GzEncoder};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde_json::{Value, json};

use crate::place::{Finished, Place};

const WORDS: [&str; 12] =
    ["the ", "boat ", "river ", "sails ", "evenly ", "down ", "été ", "and ", "keel ", "is ", "even.\n", "Then "];

/// A text of `words` words, another one for each seed.
fn text(words: usize, seed: u64) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..words).map(|_| WORDS[rng.next_u64() as usize % WORDS.len()]).collect()
}

fn write_gz(path: &Path, contents: &[u8]) {
    let mut packed = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
    packed.write_all(contents).unwrap();
    packed.finish().unwrap();
}

/// A folder of packed JSON Lines.
fn write_corpus(place: &Place, folder: &str, files: u64, lines: u64) {
    fs::create_dir_all(place.path(folder)).unwrap();
    for file in 0..files {
        let line = |line| json!({ "id": line, "text": text(20 + line as usize % 30, file * lines + line) }).to_string();
        let lines: Vec<_> = (0..lines).map(line).collect();
        write_gz(&place.path(format!("{folder}/part-{file}.jsonl.gz")), (lines.join("\n") + "\n").as_bytes());
    }
}

fn is_error(line: &str) -> bool {
    line.starts_with("error")
}

/// The recipe for one's own text: a tokenizer, a run, a resume, an evaluation, a text.
#[test]
fn own_text_with_a_tokenizer_of_its_own_cpu() {
    let place = Place::new();
    place.write("book.txt", text(4000, 1));
    for out in ["tokenizer.json", "again/tokenizer.json"] {
        place.run(&format!("tokenizer train --data book.txt --vocab 300 --out {out}")).succeeded();
    }
    assert_eq!(place.read("tokenizer.json"), place.read("again/tokenizer.json"));
    place.write("tiny.toml", String::from_utf8(place.read("tiny.toml")).unwrap().replace("vocab_size = 128\n", ""));
    place.train_tiny("run", "--data book.txt --tokenizer tokenizer.json").succeeded();
    let last = "run/checkpoints/step-000004";
    for folder in ["run", last] {
        assert_eq!(place.read(format!("{folder}/tokenizer.json")), place.read("tokenizer.json"));
        assert_eq!(place.json(format!("{folder}/tokenizer_config.json"))["eos_token"], "<|endoftext|>");
    }
    let tokenizer = Tokenizer::load(&place.path("tokenizer.json")).unwrap();
    // The text has few patterns: the vocabulary is what it gave, in a multiple of 64.
    assert_eq!(place.json(format!("{last}/config.json"))["vocab_size"], tokenizer.vocab_size().next_multiple_of(64));
    assert_eq!(place.json(format!("{last}/trainer.json"))["tokenizer"], "tokenizer.json");

    place.write("other.txt", text(500, 2));
    let row = place.run(&format!("eval --adapter cpu --model {last} --data other.txt --seq-len 16 --json")).succeeded();
    let row: Value = serde_json::from_str(row.stdout().trim()).unwrap();
    let ids = tokenizer.encode(&text(500, 2)).unwrap();
    // The document's end is a target too, if its window is whole.
    let tokens = row["tokens"].as_u64().unwrap() as usize;
    assert_eq!(tokens, ids.len() / 16 * 16);
    let bytes = tokenizer.decode(&[&ids[1..], &[tokenizer.eos().unwrap()]].concat()[..tokens]).len();
    let nats = row["loss"].as_f64().unwrap() * tokens as f64;
    let bits = nats / bytes as f64 / std::f64::consts::LN_2;
    assert!((row["bits_per_byte"].as_f64().unwrap() - bits).abs() < 1e-12 * bits, "{row}");
    let rows = place.metrics("run");
    let row = rows.iter().find(|row| row.get("valid_loss").is_some()).unwrap();
    let ratio = row["valid_loss"].as_f64().unwrap() / row["valid_bpb"].as_f64().unwrap();
    // Nats per token over bits per byte: bytes per token times ln 2.
    let per_token = bytes as f64 / tokens as f64 * std::f64::consts::LN_2;
    assert!((ratio / per_token - 1.0).abs() < 0.1, "{ratio} {per_token}");

    let generate = format!("generate --adapter cpu --model {last} --prompt Then --max-new-tokens 20 --seed 3");
    let told = place.run(&generate).succeeded();
    String::from_utf8(told.stdout_bytes().to_vec()).unwrap();
    // The run has all that it needs.
    fs::remove_file(place.path("tokenizer.json")).unwrap();
    fs::remove_dir_all(place.path("run/checkpoints/step-000004")).unwrap();
    place.run("pretrain --adapter cpu --resume run").succeeded();
    let other = Tokenizer::bytes();
    place.write(&format!("{last}/tokenizer.json"), other.files()[0].1);
    place.run("pretrain --adapter cpu --resume run").refused(&["tokenizer: expected the run's, got another"]);
}

#[test]
fn tokenizers_that_do_not_fit_are_refused_cpu() {
    let place = Place::new();
    place.write("book.txt", text(1000, 1));
    place.run("tokenizer train --data book.txt --vocab 300 --out tokenizer.json").succeeded();
    let run = |more: &str| place.train_tiny("run", &format!("--data book.txt {more}"));
    run("--tokenizer tokenizer.json").refused(&["expected at most the 128 ids of model.vocab_size", "got 300"]);
    run("--tokenizer missing.json").refused(&["missing.json", "no such file"]);
    place.write("broken.json", "{}");
    run("--tokenizer broken.json").refused(&["broken.json", "expected a tokenizer.json"]);
    run("--tokenizer bpe").refused(&["expected at least 257"]);
    place.run("tokenizer train --data book.txt --vocab 100").refused(&["vocab", "at least 257", "100"]);
    for much in [
        "tokenizer train --data book.txt --vocab 2000000000",
        "data prepare --data book.txt --vocab 2000000000 --out out",
        "pretrain --adapter cpu --data book.txt --set model.vocab_size=2000000000 --dry-run",
    ] {
        place.run(much).refused(&["vocab", "at most 16777216", "2000000000"]);
    }
    // It parses, and the tokenizers crate panics on every text.
    let mut cut: Value = serde_json::from_slice(&place.read("tokenizer.json")).unwrap();
    cut["pre_tokenizer"] = json!({ "type": "FixedLength", "length": 0 });
    place.write("cut.json", cut.to_string());
    run("--tokenizer cut.json").refused(&["cut.json", "expected a tokenizer.json"]);
    place.run("tokenizer train --data missing --vocab 300").refused(&["missing", "no such file"]);
    place.run("data prepare --data book.txt --tokenizer bytes --bos --out out").refused(&["begins a document"]);
    assert!(!place.path("run").exists());
}

/// A folder of packed JSON Lines, some of it broken.
#[test]
fn packed_lines_are_read_and_their_faults_told_cpu() {
    let place = Place::new();
    write_corpus(&place, "corpus", 3, 40);
    let train = |more: &str| place.train_tiny("run", &format!("--data corpus --set model.vocab_size=320 {more}"));
    train("").succeeded();
    assert!(place.metrics("run").iter().any(|row| row.get("valid_bpb").is_some()));
    fs::remove_dir_all(place.path("run")).unwrap();
    let whole = place.read("corpus/part-1.jsonl.gz");
    place.write("corpus/part-1.jsonl.gz", &whole[..whole.len() / 2]);
    write_gz(&place.path("corpus/part-2.jsonl.gz"), b"{\"text\": \"Then the boat\"}\n{\"text\": \n{\"body\": 1}\n");
    // The second time out of the cache: the faults are told again.
    for _ in 0..2 {
        let stderr = train("").succeeded().stderr();
        assert!(stderr.contains("part-1.jsonl.gz: byte "), "{stderr}");
        assert!(stderr.contains("part-2.jsonl.gz: line 2: expected an object in JSON"), "{stderr}");
        assert!(stderr.contains("part-2.jsonl.gz: line 3: expected a field \"text\""), "{stderr}");
        fs::remove_dir_all(place.path("run")).unwrap();
    }
    train("--strict").refused(&["part-1.jsonl.gz: byte ", "(--strict)"]);
    train("--text-field body").refused(&["expected text, got none", "part-0.jsonl.gz: line 1"]);
    assert!(!place.path("run").exists());
    // By pattern, another field, and bytes.
    place.write("one.ndjson", format!("{{\"body\": {:?}}}\n", "keel ".repeat(100)));
    place.train_tiny("run", "--data *.ndjson --text-field body --tokenizer bytes").succeeded();
}

/// Killed at random moments and started again: the bytes of an unbroken preparation, on which a run then trains.
#[test]
fn a_killed_preparation_goes_on_cpu() {
    let place = Place::new();
    fs::create_dir(place.path("corpus")).unwrap();
    // Enough for several shards of 2^24 bytes as tokens.
    let line = |i: u64| json!({ "text": text(200, i) }).to_string() + "\n";
    let lines: String = (0..200).map(line).collect();
    for file in 0..4 {
        write_gz(&place.path(format!("corpus/{file}.jsonl.gz")), lines.repeat(50).as_bytes());
    }
    place.write("book.txt", lines.repeat(10));
    let prepare = |out: &str| format!("data prepare --data corpus book.txt --tokenizer bytes --out {out}");
    let told = place.run(&prepare("whole")).succeeded().stdout();
    assert!(told.contains("tokens in ") && told.contains("documents"), "{told}");
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut kills = 0;
    for _ in 0..200 {
        let mut child = place.command(prepare("killed").split_whitespace()).spawn().unwrap();
        sleep(Duration::from_micros(rng.next_u64() % 400_000));
        if child.try_wait().unwrap().is_some_and(|status| status.success()) {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // A slow machine may not have come to its folder.
        if !place.path("killed").exists() {
            continue;
        }
        kills += 1;
        // What has a name is complete.
        for name in place.list("killed").iter().filter(|name| name.ends_with(".bin")) {
            assert_eq!(place.read(format!("killed/{name}")), place.read(format!("whole/{name}")), "{name}");
        }
        if kills == 8 {
            break;
        }
    }
    place.run(&prepare("killed")).succeeded();
    let files =
        |out: &str| -> Vec<String> { place.list(out).into_iter().filter(|name| !name.starts_with('.')).collect() };
    assert_eq!(files("killed"), files("whole"));
    assert!(files("whole").len() > 5, "{:?}", files("whole"));
    for name in files("whole") {
        assert!(place.read(format!("killed/{name}")) == place.read(format!("whole/{name}")), "{name}");
    }
    place.run("data prepare --data book.txt --tokenizer bytes --out whole").refused(&["whole", "other data"]);
    let stderr = place.train_tiny("run", "--data whole --set model.vocab_size=256").succeeded().stderr();
    assert!(!stderr.lines().any(is_error), "{stderr}");
    assert_eq!(place.json("run/checkpoints/step-000004/trainer.json")["tokenizer"], "bytes");
}

/// A folder of data that a kill left, one whose shard is gone, a damaged cache, and a run's folder.
#[test]
fn what_is_not_whole_is_refused_or_made_again_cpu() {
    let place = Place::new();
    place.write("book.txt", text(2000, 1));
    place.train_tiny("run", "--set model.vocab_size=256 --data book.txt --tokenizer bytes").succeeded();
    let prepare = "data prepare --data book.txt --tokenizer bytes --out";
    place.run(&format!("{prepare} run")).refused(&["run: expected an empty folder or one where the same data"]);
    place.run("pretrain --adapter cpu --resume run").succeeded();
    place.run(&format!("{prepare} out")).succeeded();
    let whole = place.read("out/tokens-000000.bin");
    fs::remove_file(place.path("out/tokens-000000.bin")).unwrap();
    let again = place.run(&format!("{prepare} out")).succeeded().stderr();
    assert!(again.contains("out: prepared data that are missing or damaged: preparing them again"), "{again}");
    assert_eq!(place.read("out/tokens-000000.bin"), whole);
    fs::remove_file(place.path("out/index.json")).unwrap();
    let eval = "eval --adapter cpu --model run/checkpoints/step-000004 --seq-len 16 --data";
    for unfinished in ["pretrain --adapter cpu --config tiny.toml --out x --data out", &format!("{eval} out")] {
        place.run(unfinished).refused(&["out: expected prepared data, got a preparation that is not finished"]);
    }
    place.write("lines.jsonl", json!({ "text": text(500, 2) }).to_string());
    let cached = || {
        let mut command = place.command(format!("{eval} lines.jsonl").split_whitespace());
        command.env("EVENKEEL_CACHE", place.path("cache"));
        Finished::of(command).succeeded().stdout()
    };
    let first = cached();
    let entry = format!("cache/prepared/{}", place.list("cache/prepared")[0]);
    for name in place.list(&entry) {
        fs::remove_file(place.path(format!("{entry}/{name}"))).unwrap();
        assert_eq!(cached(), first, "{name}");
    }
}

/// Prepared with a tokenizer that is trained on the way; the model's vocabulary follows.
#[test]
fn prepared_data_bring_their_tokenizer_cpu() {
    let place = Place::new();
    write_corpus(&place, "corpus", 2, 60);
    place.run("data prepare --data corpus --vocab 290 --out prepared").succeeded();
    let tokenizer = Tokenizer::load(&place.path("prepared")).unwrap();
    place.write("tiny.toml", String::from_utf8(place.read("tiny.toml")).unwrap().replace("vocab_size = 128\n", ""));
    place.train_tiny("run", "--data prepared").succeeded();
    let config = place.json("run/checkpoints/step-000004/config.json");
    assert_eq!(config["vocab_size"], tokenizer.vocab_size().next_multiple_of(64));
    assert_eq!(place.read("run/tokenizer.json"), place.read("prepared/tokenizer.json"));
    // Directly, it is the same run.
    place.train_tiny("direct", "--data corpus --tokenizer prepared").succeeded();
    let weights = |run: &str| place.read(format!("{run}/checkpoints/step-000004/model.safetensors"));
    assert!(weights("run") == weights("direct"));
    place.run("eval --adapter cpu --model run/checkpoints/step-000004 --data prepared --seq-len 16 --json").succeeded();
    place.train_tiny("x", "--data prepared --tokenizer bytes").refused(&["expected that of the prepared data"]);
}

/// The default run: a BPE of 512 entries on the stories, made once, by however many runs at once.
#[test]
fn the_default_run_trains_a_tokenizer_once_cpu() {
    let place = Place::new();
    let run = |out: &str| {
        let arguments = format!("pretrain --adapter cpu --steps 1 --out {out} --set train.batch_size=1");
        let mut command = place.command(arguments.split_whitespace());
        command.env("EVENKEEL_CACHE", place.path("cache"));
        command
    };
    let both: Vec<_> = ["a", "b"].map(|out| run(out).spawn().unwrap()).into_iter().collect();
    for child in both {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.contains("training a tokenizer of 512 entries"), "{stderr}");
    }
    assert_eq!(place.read("a/tokenizer.json"), place.read("b/tokenizer.json"));
    assert_eq!(Tokenizer::load(&place.path("a")).unwrap().vocab_size(), 512);
    // Half of a cached file, as no kill leaves it, is made again.
    let [name] = &place.list("cache/tokenizers")[..] else { panic!("expected one tokenizer") };
    let whole = place.read(format!("cache/tokenizers/{name}"));
    place.write(&format!("cache/tokenizers/{name}"), &whole[..whole.len() / 2]);
    assert!(run("c").output().unwrap().status.success());
    assert_eq!(place.read(format!("cache/tokenizers/{name}")), whole);
    let output = run("d").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !stderr.contains("training a tokenizer"), "{stderr}");
}
