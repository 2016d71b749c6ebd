//! Data that is refused.

use crate::place::Place;

const MAGIC: i32 = 20_240_520;

/// Refuses a data file for training, validation and evaluation alike.
fn refused(place: &Place, file: &str, parts: &[&str]) {
    let named: Vec<&str> = parts.iter().copied().chain([file]).collect();
    place.train_tiny("run", &format!("--data {file}")).refused(&named);
    assert!(!place.path("run").exists(), "{file}: expected no run folder");
    place.run(&format!("eval --adapter cpu --model {MODEL} --data {file} --seq-len 16 --json")).refused(&named);
}

const MODEL: &str = "trained/checkpoints/step-000004";

fn with_model() -> Place {
    let place = Place::new();
    place.train_tiny("trained", "").succeeded();
    place
}

#[test]
fn files_that_cannot_be_read_are_refused_cpu() {
    let place = with_model();
    refused(&place, "missing.txt", &["no such file"]);
    refused(&place, "missing.bin", &["no such file"]);
    std::fs::create_dir(place.path("numbers")).unwrap();
    place.write("numbers/metrics.jsonl", place.read("trained/metrics.jsonl"));
    refused(&place, "numbers", &["expected text, got none"]);
    place.write("empty.txt", "");
    refused(&place, "empty.txt", &["empty"]);
    place.write("empty.bin", "");
    refused(&place, "empty.bin", &["empty"]);
    #[cfg(unix)]
    {
        // Nobody can read it, the superuser neither.
        std::os::unix::fs::symlink("loop.txt", place.path("loop.txt")).unwrap();
        refused(&place, "loop.txt", &["cannot be read"]);
        std::os::unix::fs::symlink("/dev/null", place.path("device.txt")).unwrap();
        refused(&place, "device.txt", &["device"]);
    }
}

#[test]
fn wrong_shards_are_refused_cpu() {
    let place = with_model();
    let tokens = [7; 100];
    let shards: [(&str, [i32; 3], &[&str]); 5] = [
        ("magic.bin", [MAGIC + 1, 1, 100], &["magic", "20240520", "20240521"]),
        ("version.bin", [MAGIC, 2, 100], &["version", "2"]),
        ("more.bin", [MAGIC, 1, 101], &["101", "200 bytes"]),
        ("fewer.bin", [MAGIC, 1, 99], &["99", "200 bytes"]),
        ("negative.bin", [MAGIC, 1, -1], &["-1"]),
    ];
    for (file, header, parts) in shards {
        place.write_shard(file, header, &tokens);
        refused(&place, file, parts);
    }
    place.write_shard("whole.bin", [MAGIC, 1, 100], &tokens);
    let whole = place.read("whole.bin");
    place.write("truncated.bin", &whole[..whole.len() - 33]);
    refused(&place, "truncated.bin", &["100", "167 bytes"]);
    place.write("header.bin", &whole[..1000]);
    refused(&place, "header.bin", &["1024", "1000"]);
    place.write("text.bin", "letters all along ".repeat(100));
    refused(&place, "text.bin", &["magic"]);
}

#[test]
fn tokens_beyond_the_vocabulary_are_refused_cpu() {
    let place = with_model();
    let mut tokens = [5; 100];
    tokens[99] = 128;
    place.write_shard("beyond.bin", [MAGIC, 1, 100], &tokens);
    refused(&place, "beyond.bin", &["128", "token 99", "vocab_size"]);
    place.write("accents.txt", "Il était une fois un roi. ".repeat(20));
    refused(&place, "accents.txt", &["195", "vocab_size 128"]);
}

#[test]
fn data_shorter_than_a_batch_is_refused_cpu() {
    let place = with_model();
    place.write("short.txt", "hello");
    refused(&place, "short.txt", &["seq_len"]);
    // Of tokens that were made of a text, the text is named, not the file in the cache.
    let text = place.train_tiny("run", "--data short.txt --set model.vocab_size=320");
    text.refused(&["the first nine tenths of ", "short.txt: expected at least 33 tokens"]);
    place.write_shard("short.bin", [MAGIC, 1, 16], &[3; 16]);
    refused(&place, "short.bin", &["seq_len", "16"]);
    // One token short of a batch of 2 times 16 and the last target.
    place.write_shard("almost.bin", [MAGIC, 1, 32], &[3; 32]);
    place.train_tiny("run", "--data almost.bin").refused(&["almost.bin", "33", "32", "batch_size 2 x seq_len 16"]);
    place.write_shard("enough.bin", [MAGIC, 1, 33], &[3; 33]);
    place.train_tiny("run", "--data enough.bin").succeeded();
}

#[test]
fn text_beside_shards_is_refused_cpu() {
    let place = Place::new();
    place.write("words.txt", "some words ".repeat(50));
    place.write_shard("ids.bin", [MAGIC, 1, 100], &[3; 100]);
    place.train_tiny("run", "--data words.txt ids.bin").refused(&["words.txt", "ids.bin"]);
    place.train_tiny("run", "--data ids.bin --valid words.txt").refused(&["words.txt", "ids.bin"]);
    place.train_tiny("run", "--data words.txt --valid missing.txt").refused(&["missing.txt"]);
    place.has_no_checkpoint();
}
