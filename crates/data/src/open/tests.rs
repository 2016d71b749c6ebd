#![allow(clippy::unwrap_used)]

use std::fs;
use std::ops::ControlFlow;

use super::*;
use crate::PrepareOptions;
use crate::prepare::prepare;

fn quiet(_: DataEvent<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("text.txt"), "0123456789").unwrap();
        fs::write(folder.path().join("more"), "ab").unwrap();
        let mut shard = Vec::new();
        for field in [20240520i32, 1, 3].into_iter().chain([0; 253]) {
            shard.extend(field.to_le_bytes());
        }
        shard.extend([7, 0, 8, 0, 9, 1]);
        fs::write(folder.path().join("shard.bin"), &shard).unwrap();
        fs::write(folder.path().join("other.BIN"), &shard).unwrap();
        let fixture = Self { folder };
        let source = Source::files(&fixture.paths(&["text.txt"]), "text").unwrap();
        let options =
            PrepareOptions { tokenizer: Tokenizer::bytes(), bos: false, strict: false, shard_tokens: 1 << 20 };
        prepare(&source, &options, &fixture.folder.path().join("prepared"), &mut quiet).unwrap();
        fixture
    }

    fn paths(&self, names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| self.folder.path().join(name)).collect()
    }

    fn open(&self, tokenizer: TokenizerChoice, train: &[&str], valid: &[&str]) -> Result<Data, DataError> {
        let sources = Sources { train: self.paths(train), valid: self.paths(valid), tokenizer, ..Sources::default() };
        open(&sources, 512, &mut quiet)
    }

    fn open_bytes(&self, train: &[&str], valid: &[&str]) -> Result<Data, DataError> {
        self.open(TokenizerChoice::AutoBytes, train, valid)
    }
}

fn tokens(corpus: &Corpus) -> Vec<u32> {
    let mut out = vec![0; corpus.len() as usize];
    corpus.read(0, &mut out);
    out
}

fn text(bytes: &str) -> Vec<u32> {
    bytes.bytes().map(u32::from).collect()
}

#[test]
fn sources_choose_the_corpora() {
    let fixture = Fixture::new();
    let Data { train, valid, tokenizer } = fixture.open_bytes(&[], &[]).unwrap();
    assert!(matches!((&train, &valid), (Corpus::Stories(_), Some(Corpus::Stories(_)))));
    assert_ne!(train.len(), valid.unwrap().len());
    assert_eq!(tokenizer, Some(Tokenizer::bytes()));
    let Data { train, valid, .. } = fixture.open_bytes(&["text.txt"], &[]).unwrap();
    assert_eq!((tokens(&train), tokens(&valid.unwrap())), (text("012345678"), text("9")));
    let Data { train, valid, .. } = fixture.open_bytes(&["text.txt"], &["more"]).unwrap();
    assert_eq!((tokens(&train), tokens(&valid.unwrap())), (text("0123456789"), text("ab")));
    let Data { train, valid, .. } = fixture.open_bytes(&[], &["more"]).unwrap();
    assert!(matches!(train, Corpus::Stories(_)) && tokens(&valid.unwrap()) == text("ab"));
    let Data { train, valid, tokenizer } = fixture.open_bytes(&["shard.bin", "other.BIN"], &[]).unwrap();
    assert_eq!(tokens(&train), [7, 8, 265, 7, 8, 265]);
    assert_eq!((tokenizer, valid.is_none()), (None, true));
    let Data { valid, .. } = fixture.open_bytes(&["shard.bin"], &["other.BIN"]).unwrap();
    assert_eq!(tokens(&valid.unwrap()), [7, 8, 265]);
    // Prepared by bytes: ten and the end of the document.
    let Data { train, valid, tokenizer } = fixture.open(TokenizerChoice::Auto, &["prepared"], &[]).unwrap();
    assert_eq!((tokens(&train), tokens(&valid.unwrap())), (text("012345678"), text("9\0")));
    assert_eq!(tokenizer, Some(Tokenizer::bytes()));
    let Data { valid, .. } = fixture.open(TokenizerChoice::Auto, &["prepared"], &["more"]).unwrap();
    assert_eq!(tokens(&valid.unwrap()), text("ab"));
}

#[test]
fn text_beside_shards_is_a_fault() {
    let fixture = Fixture::new();
    let mixed: [(&[&str], &[&str]); 4] = [
        (&["text.txt", "shard.bin"], &[]),
        (&["shard.bin"], &["text.txt"]),
        (&["text.txt"], &["other.BIN"]),
        (&[], &["shard.bin"]),
    ];
    for (train, valid) in mixed {
        assert!(matches!(fixture.open_bytes(train, valid), Err(DataError::Mixed { .. })));
    }
}

#[test]
fn tokenizers_fit_the_model_and_the_data() {
    let fixture = Fixture::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/golden/tokenizers/byte-level.json");
    let given = Tokenizer::load(&golden).unwrap();
    let fault = |choice, train: &[&str]| fixture.open(choice, train, &[]).unwrap_err().to_string();
    let given = || TokenizerChoice::Given(given.clone());
    assert_eq!(fixture.open(given(), &["shard.bin"], &[]).unwrap().tokenizer.unwrap().vocab_size(), 360);
    assert!(fault(given(), &["prepared"]).contains("expected that of the prepared data, got another one"));
    assert!(fault(TokenizerChoice::Bpe, &["shard.bin"]).contains("beside token shards"));
    let sources = Sources { train: fixture.paths(&["text.txt"]), tokenizer: given(), ..Sources::default() };
    let fault = open(&sources, 359, &mut quiet).unwrap_err().to_string();
    assert_eq!(
        fault,
        "tokenizer: expected at most the 359 ids of model.vocab_size, got 360; leave model.vocab_size out, or raise it"
    );
    // Too small for a BPE: bytes.
    let sources = Sources { train: fixture.paths(&["text.txt"]), ..Sources::default() };
    assert!(open(&sources, 256, &mut quiet).unwrap().tokenizer.unwrap().is_bytes());
}

#[test]
fn faults_are_one_line_with_path_and_next_step() {
    let fixture = Fixture::new();
    let path = fixture.folder.path().join("missing.txt");
    let fault = fixture.open_bytes(&["missing.txt"], &[]).unwrap_err().to_string();
    assert_eq!(fault, format!("{}: expected a data file, got no such file; check the path", path.display()));
    let fault = fixture.open_bytes(&["text.txt"], &["missing.txt"]).unwrap_err();
    assert!(matches!(fault, DataError::Missing { .. }));
}
