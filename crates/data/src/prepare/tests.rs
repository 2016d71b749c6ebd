#![allow(clippy::unwrap_used)]

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::*;
use crate::input::{Inputs, PIECE_BYTES, TEXT_FIELD, find};
use crate::prepared::Prepared;
use crate::{INDEX_FILE, train_bpe};

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

fn quiet(_: DataEvent<'_>) -> ControlFlow<()> {
    GO_ON
}

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/golden").join(file)
}

fn options(tokenizer: Tokenizer, shard_tokens: u64) -> PrepareOptions {
    PrepareOptions { tokenizer, bos: false, strict: false, shard_tokens }
}

fn tokens(folder: &Path) -> Vec<u32> {
    let prepared = Prepared::open(folder, usize::MAX).unwrap();
    let mut out = vec![0; prepared.shards.len() as usize];
    prepared.shards.read(0, &mut out);
    out
}

fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<_> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect();
    all.sort();
    all
}

/// Against the documents, tokenized one by one.
#[test]
fn documents_are_packed_between_their_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(golden("documents/documents.jsonl")).unwrap();
    let documents: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].as_str().unwrap().to_owned())
        .collect();
    let paths = ["documents.jsonl.gz", "zstd.parquet"].map(|name| golden("documents").join(name));
    let source = Source::files(&paths, TEXT_FIELD).unwrap();
    for (name, bos) in [("byte-level", false), ("sentence-piece", false), ("sentence-piece", true)] {
        let tokenizer = Tokenizer::load(&golden(&format!("tokenizers/{name}.json"))).unwrap();
        let out = folder.path().join(format!("{name}-{bos}"));
        let index =
            prepare(&source, &PrepareOptions { bos, ..options(tokenizer.clone(), 700) }, &out, &mut quiet).unwrap();
        let mut expected = Vec::new();
        for document in documents.iter().chain(&documents) {
            expected.extend(bos.then(|| tokenizer.bos().unwrap()));
            expected.extend(tokenizer.encode(document).unwrap());
            expected.push(tokenizer.eos().unwrap());
        }
        assert_eq!(tokens(&out), expected);
        assert_eq!((index.tokens, index.documents), (expected.len() as u64, 240));
        assert_eq!(index.bytes, 2 * documents.iter().map(String::len).sum::<usize>() as u64);
        let sizes: Vec<u64> = index.shards.iter().map(|shard| shard.tokens).collect();
        let (last, full) = sizes.split_last().unwrap();
        // The longest document has fewer than 1000 tokens.
        assert!(full.len() > 4 && full.iter().all(|size| (700..1700).contains(size)) && *last < 1700, "{sizes:?}");
        assert!(Tokenizer::load(&out).unwrap() == tokenizer);
    }
    let fault = prepare(
        &source,
        &PrepareOptions { bos: true, ..options(Tokenizer::bytes(), 700) },
        &folder.path().join("x"),
        &mut quiet,
    );
    assert!(fault.unwrap_err().to_string().contains("expected a token that begins a document"));
}

/// A document that is read in three pieces is still one.
#[test]
fn a_long_document_begins_and_ends_once() {
    let folder = tempfile::tempdir().unwrap();
    let text = "She sat by the sea.\n".repeat(5 * PIECE_BYTES / 2 / 20);
    fs::write(folder.path().join("text.txt"), text).unwrap();
    let source = Source::files(&[folder.path().join("text.txt")], TEXT_FIELD).unwrap();
    let tokenizer = Tokenizer::load(&golden("tokenizers/sentence-piece.json")).unwrap();
    let [bos, eos] = [tokenizer.bos().unwrap(), tokenizer.eos().unwrap()];
    let out = folder.path().join("out");
    let index =
        prepare(&source, &PrepareOptions { bos: true, ..options(tokenizer, 1 << 30) }, &out, &mut quiet).unwrap();
    let tokens = tokens(&out);
    let places =
        |special| tokens.iter().enumerate().filter(move |(_, token)| **token == special).map(|(place, _)| place);
    assert_eq!(places(bos).collect::<Vec<_>>(), [0]);
    assert_eq!(places(eos).collect::<Vec<_>>(), [tokens.len() - 1]);
    assert_eq!((index.documents, index.tokens), (1, tokens.len() as u64));
}

#[test]
fn wide_ids_are_stored_in_four_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let json = fs::read_to_string(golden("tokenizers/byte-level.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
    // A vocabulary with one id beyond 16 bits: the letter e.
    json["model"]["vocab"]["e"] = 70_000.into();
    json["model"]["merges"] = serde_json::json!([]);
    fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    fs::write(folder.path().join("text.txt"), "eel").unwrap();
    let source = Source::files(&[folder.path().join("text.txt")], TEXT_FIELD).unwrap();
    let out = folder.path().join("out");
    prepare(&source, &options(tokenizer.clone(), 100), &out, &mut quiet).unwrap();
    assert_eq!(tokens(&out), [&tokenizer.encode("eel").unwrap()[..], &[0]].concat());
    assert_eq!(tokens(&out)[..2], [70_000, 70_000]);
    assert!(matches!(Prepared::open(&out, 70_000), Err(DataError::TokenOutOfRange { id: 70_000, position: 0, .. })));
}

/// Stopped at every place where it can be, and gone on with.
#[test]
fn a_stopped_preparation_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for i in 0..60_000 {
        text += &format!("{{\"text\": \"document {i}\"}}\n");
        if i % 1000 == 999 {
            text += "broken\n";
        }
    }
    let paths = ["a.jsonl", "b.jsonl"].map(|name| folder.path().join(name));
    paths.iter().for_each(|path| fs::write(path, &text).unwrap());
    let source = Source::files(&paths, TEXT_FIELD).unwrap();
    let tokenizer = train_bpe(std::iter::once(text.clone()), 300).unwrap();
    let options = options(tokenizer, 50_000);
    let whole = folder.path().join("whole");
    let index = prepare(&source, &options, &whole, &mut quiet).unwrap();
    assert_eq!((index.documents, index.faults.count, index.faults.first.len()), (120_000, 120, 10));
    assert!(index.shards.len() > 5);
    let mut batches = 0;
    let broken = folder.path().join("broken");
    let mut rounds = 0;
    loop {
        rounds += 1;
        // Later and later, so that it comes to an end.
        let mut left = rounds;
        let outcome = prepare(&source, &options, &broken, &mut |_| {
            batches += 1;
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { GO_ON }
        });
        match outcome {
            Ok(resumed) => {
                assert_eq!(resumed, index);
                break;
            }
            Err(DataError::Stopped) => assert!(!broken.join(INDEX_FILE).exists()),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(rounds > 2, "{rounds}");
    let without_partial = |mut all: Vec<(String, Vec<u8>)>| {
        all.retain(|(name, _)| name != ".partial");
        all
    };
    assert!(without_partial(contents(&broken)) == without_partial(contents(&whole)));
    // All is done: nothing is read again.
    assert_eq!(prepare(&source, &options, &broken, &mut |_| panic!("nothing left to do")).unwrap(), index);
}

#[test]
fn folders_that_hold_something_else_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    fs::write(&path, "some text").unwrap();
    let source = || Source::files(std::slice::from_ref(&path), TEXT_FIELD).unwrap();
    let options = options(Tokenizer::bytes(), 100);
    let fault = |out: &Path| prepare(&source(), &options, out, &mut quiet).unwrap_err().to_string();
    assert!(fault(folder.path()).contains("got \"text.txt\""), "{}", fault(folder.path()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let out = folder.path().join("out");
    prepare(&source(), &options, &out, &mut quiet).unwrap();
    fs::write(&path, "some fext").unwrap();
    assert!(fault(&out).contains("other data"));
    fs::write(&path, "some text").unwrap();
    prepare(&source(), &options, &out, &mut quiet).unwrap();
    let locked = fs::File::open(out.join("lock")).unwrap();
    locked.lock().unwrap();
    assert!(fault(&out).contains("in use by another process"));
}

/// A lock, which run folders have too, excuses nothing.
#[test]
fn a_run_folder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    fs::write(&path, "some text").unwrap();
    let source = Source::files(&[path], TEXT_FIELD).unwrap();
    for (names, got) in [
        (&["lock", "tokenizer.json", "run.toml"][..], "run.toml"),
        (&["lock", "tokenizer.json", "config.json"], "config.json"),
        (&["lock", "tokens-1.bin"], "tokens-1.bin"),
        (&["tokenizer.json"], "tokenizer.json"),
        (&["tokens-000000.bin"], "tokens-000000.bin"),
        (&["lock", ".partial/"], ".partial"),
    ] {
        let out = folder.path().join(got);
        fs::create_dir(&out).unwrap();
        for name in names {
            match name.strip_suffix('/') {
                Some(name) => fs::create_dir(out.join(name)).unwrap(),
                None => fs::write(out.join(name), "theirs").unwrap(),
            }
        }
        let fault = prepare(&source, &options(Tokenizer::bytes(), 100), &out, &mut quiet).unwrap_err().to_string();
        let expected = "expected an empty folder or one where the same data were begun, got ";
        assert!(fault.contains(&format!("{expected}{got:?}")), "{fault}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), names.len(), "{got}");
        let file = names.iter().find(|name| !name.ends_with('/')).unwrap();
        assert_eq!(fs::read_to_string(out.join(file)).unwrap(), "theirs");
    }
}

/// Three shards of a text, each of a line of its own as a document.
fn three_shards(folder: &Path) -> (Source, PrepareOptions) {
    let path = folder.join("lines.jsonl");
    fs::write(&path, "{\"text\": \"three times eight\"}\n".repeat(3)).unwrap();
    (Source::files(&[path], TEXT_FIELD).unwrap(), options(Tokenizer::bytes(), 10))
}

/// Damage to what is prepared, by name.
type Damage = fn(&Path);
const DAMAGE: [(&str, Damage); 6] = [
    ("shard gone", |folder| fs::remove_file(folder.join("tokens-000001.bin")).unwrap()),
    ("shard cut", |folder| fs::write(folder.join("tokens-000002.bin"), [0; 9]).unwrap()),
    ("other shard", |folder| {
        let longer = fs::read(folder.join("tokens-000000.bin")).unwrap();
        let header = [20_240_520, 1, 1].map(i32::to_le_bytes).concat();
        fs::write(folder.join("tokens-000000.bin"), [&header, &longer[12..1026]].concat()).unwrap();
    }),
    ("tokenizer gone", |folder| fs::remove_file(folder.join("tokenizer.json")).unwrap()),
    ("tokenizer cut", |folder| fs::write(folder.join("tokenizer.json"), "{").unwrap()),
    ("lock gone", |folder| fs::remove_file(folder.join("lock")).unwrap()),
];

#[test]
fn what_is_damaged_is_prepared_again() {
    let folder = tempfile::tempdir().unwrap();
    let (source, options) = three_shards(folder.path());
    let out = folder.path().join("out");
    let index = prepare(&source, &options, &out, &mut quiet).unwrap();
    assert_eq!(index.shards.len(), 3);
    let whole = contents(&out);
    for (name, damage) in DAMAGE {
        damage(&out);
        assert_eq!(prepare(&source, &options, &out, &mut quiet).unwrap(), index, "{name}");
        assert!(contents(&out) == whole, "{name}");
    }
    // Also of a part: progress is only as good as its shards.
    let progress = serde_json::json!({ "format_version": 1, "position": { "part": 0, "pieces": 3 }, "index": index });
    fs::write(out.join("progress.json"), progress.to_string()).unwrap();
    fs::remove_file(out.join(INDEX_FILE)).unwrap();
    fs::remove_file(out.join("tokens-000000.bin")).unwrap();
    prepare(&source, &options, &out, &mut quiet).unwrap();
    assert!(contents(&out) == whole);
    // An index that is not one may be anybody's.
    fs::write(out.join(INDEX_FILE), "{").unwrap();
    let fault = prepare(&source, &options, &out, &mut quiet).unwrap_err().to_string();
    assert!(fault.contains("index.json: expected an index of prepared data") && fault.contains("again"), "{fault}");
}

#[test]
fn a_damaged_cache_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (source, options) = three_shards(folder.path());
    let out = folder.path().join("entry");
    let cached = || prepare_in(&source, &options, begin(&source, &options).unwrap(), &out, Owner::Cache, &mut quiet);
    let index = cached().unwrap();
    let whole = contents(&out);
    let of_the_cache: [(&str, Damage); 3] = [
        ("index cut", |folder| fs::write(folder.join(INDEX_FILE), "{").unwrap()),
        ("index gone", |folder| fs::remove_file(folder.join(INDEX_FILE)).unwrap()),
        ("something else", |folder| {
            fs::remove_file(folder.join("lock")).unwrap();
            fs::write(folder.join(INDEX_FILE), "{}").unwrap();
            fs::write(folder.join("notes.txt"), "x").unwrap();
        }),
    ];
    for (name, damage) in DAMAGE.into_iter().chain(of_the_cache) {
        damage(&out);
        assert_eq!(cached().unwrap(), index, "{name}");
        assert!(contents(&out) == whole, "{name}");
    }
}

/// What a kill leaves is no data.
#[test]
fn a_part_of_a_preparation_is_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let (source, options) = three_shards(folder.path());
    let out = folder.path().join("out");
    let refused = |what: &str| {
        for path in [out.clone(), folder.path().into()] {
            let fault = find(&[path]).unwrap_err().to_string();
            let expected = "out: expected prepared data, got a preparation that is not finished; run the same";
            assert!(fault.contains(expected), "{what}: {fault}");
        }
    };
    prepare(&source, &options, &out, &mut quiet).unwrap();
    fs::remove_file(folder.path().join("lines.jsonl")).unwrap();
    assert!(matches!(find(std::slice::from_ref(&out)).unwrap(), Inputs::Prepared(_)));
    fs::remove_file(out.join(INDEX_FILE)).unwrap();
    refused("without an index");
    fs::remove_file(out.join("tokenizer.json")).unwrap();
    refused("with a lock");
    fs::rename(out.join("lock"), out.join("progress.json")).unwrap();
    refused("with progress");
    // Shards of somebody else.
    fs::remove_file(out.join("progress.json")).unwrap();
    fs::remove_file(out.join("tokenizer_config.json")).unwrap();
    assert!(matches!(find(&[out]).unwrap(), Inputs::Shards(shards) if shards.len() == 3));
}

#[test]
fn faults_are_errors_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.jsonl");
    fs::write(&path, "{\"text\": \"a\"}\nbroken\n").unwrap();
    let source = Source::files(std::slice::from_ref(&path), TEXT_FIELD).unwrap();
    let strict = PrepareOptions { strict: true, ..options(Tokenizer::bytes(), 100) };
    let out = folder.path().join("out");
    let fault = prepare(&source, &strict, &out, &mut quiet).unwrap_err().to_string();
    assert!(fault.contains("lines.jsonl: line 2: ") && fault.ends_with("(--strict)"), "{fault}");
    // Nothing is left out.
    assert!(!fault.contains("left out"), "{fault}");
    let index = prepare(&source, &options(Tokenizer::bytes(), 100), &out, &mut quiet).unwrap();
    assert_eq!(index.faults.lines().len(), 1);
    // Also where it was passed over before.
    assert_eq!(prepare(&source, &strict, &out, &mut quiet).unwrap_err().to_string(), fault);
    assert!(index.faults.lines()[0].ends_with("; left out"));
    fs::write(&path, "broken\n\n").unwrap();
    let source = Source::files(std::slice::from_ref(&path), TEXT_FIELD).unwrap();
    let fault = prepare(&source, &options(Tokenizer::bytes(), 100), &folder.path().join("none"), &mut quiet);
    assert!(fault.unwrap_err().to_string().contains("expected text, got none; first of 1 faults: "));
}

#[test]
fn an_index_that_lies_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    fs::write(&path, "some text").unwrap();
    let source = Source::files(&[path], TEXT_FIELD).unwrap();
    let out = folder.path().join("out");
    prepare(&source, &options(Tokenizer::bytes(), 100), &out, &mut quiet).unwrap();
    assert_eq!(tokens(&out), [&b"some text".map(u32::from)[..], &[0]].concat());
    let good = fs::read_to_string(out.join(INDEX_FILE)).unwrap();
    for (from, to, part) in [
        ("\"format_version\": 1", "\"format_version\": 2", "format_version 2"),
        ("\"vocab_size\": 256", "\"vocab_size\": 255", "vocab_size 255"),
        ("\"tokens\": 10\n", "\"tokens\": 11\n", "11 tokens for tokens-000000.bin, which has 10"),
        ("tokens-000000.bin", "../out/tokens-000000.bin", "a shard called"),
        ("tokens-000000.bin", "tokens-000001.bin", "no such file"),
        ("\"shards\"", "\"shard\"", "missing field"),
        ("{", "", "expected an index"),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(out.join(INDEX_FILE), good.replacen(from, to, 1)).unwrap();
        let fault = Prepared::open(&out, 256).unwrap_err().to_string();
        assert!(fault.contains(part) && !fault.contains('\n'), "{fault}");
    }
}
