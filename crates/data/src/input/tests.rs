#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use super::*;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/golden/documents").join(file)
}

fn files(paths: &[PathBuf]) -> Vec<InputFile> {
    match find(paths).unwrap() {
        Inputs::Texts(files) => files,
        other => panic!("expected texts, got {other:?}"),
    }
}

/// Documents and faults of a file.
fn all(path: &Path, field: &str) -> Result<(Vec<String>, Vec<String>), DataError> {
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    let mut open = false;
    read(&files(&[path.into()])[0], field, &Arc::default(), &mut |item| {
        match item {
            Item::Piece(piece) => {
                assert_eq!(piece.first, !open, "a piece begins a document where one has ended");
                if piece.first {
                    documents.push(String::new());
                }
                *documents.last_mut().unwrap() += &piece.text;
                open = !piece.last;
            }
            Item::Fault(fault) => faults.push(fault.to_string().replace(&path.display().to_string(), "FILE")),
        }
        true
    })?;
    assert!(!open, "the last document ends");
    Ok((documents, faults))
}

/// The documents of the fixture, by serde_json.
fn documents() -> Vec<String> {
    let text = fs::read_to_string(golden("documents.jsonl")).unwrap();
    let document = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
    text.lines().map(document).collect()
}

fn null() -> Vec<String> {
    vec!["FILE: row 41: expected a text in column \"text\", got null; left out".into()]
}

#[test]
fn every_form_has_the_same_documents() {
    assert_eq!(documents().len(), 120);
    for form in ["documents.jsonl", "documents.jsonl.gz", "documents.jsonl.zst"] {
        let (found, faults) = all(&golden(form), "text").unwrap();
        assert_eq!((found, faults), (documents(), Vec::new()), "{form}");
    }
    // The tables have a row more, which is null.
    for form in ["plain.parquet", "snappy.parquet", "gzip.parquet", "zstd.parquet", "zstd-pages-2.parquet"] {
        assert_eq!(all(&golden(form), "text").unwrap(), (documents(), null()), "{form}");
    }
}

#[test]
fn parquet_is_unpacked_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packed.parquet.gz");
    let mut packed = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &fs::read(golden("zstd.parquet")).unwrap()).unwrap();
    packed.finish().unwrap();
    assert_eq!(all(&path, "text").unwrap(), (documents(), null()));
}

/// Of files of another codec the table's footer says so, wherever the texts are.
#[test]
fn a_codec_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packed.parquet");
    let whole = fs::read(golden("snappy.parquet")).unwrap();
    for (code, name) in [(3, "LZO"), (4, "BROTLI"), (5, "LZ4"), (7, "LZ4_RAW")] {
        let mut bytes = whole.clone();
        // In Thrift: the name of the column, then the codec, 1 for snappy, as field 4.
        let places: Vec<_> = (8..whole.len()).filter(|end| whole[..*end].ends_with(b"\x04text\x15\x02")).collect();
        assert_eq!(places.len(), 3);
        places.iter().for_each(|end| bytes[end - 1] = 2 * code);
        fs::write(&path, bytes).unwrap();
        let (documents, faults) = all(&path, "text").unwrap();
        let expected =
            format!("expected texts packed by snappy, gzip or zstd, or not packed, got {name}; its row group is");
        assert!(documents.is_empty() && faults.len() == 3, "{faults:?}");
        for (fault, row) in faults.iter().zip([1, 51, 101]) {
            assert!(fault.starts_with(&format!("FILE: row {row}: {expected}")), "{fault}");
        }
    }
}

#[test]
fn columns_are_named() {
    let (urls, _) = all(&golden("snappy.parquet"), "url").unwrap();
    assert_eq!(urls, ["x"; 121]);
    let fault = |field| all(&golden("snappy.parquet"), field).unwrap_err().to_string();
    assert!(
        fault("body").contains("expected a column \"body\" of texts, got the columns id, text, url"),
        "{}",
        fault("body")
    );
    assert!(fault("id").contains("got a column of INT64"), "{}", fault("id"));
}

#[test]
fn lines_that_are_no_documents_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.jsonl");
    let lines: [&[u8]; 11] = [
        br#"{"text": "one"}"#,
        br#"{"text": "cut"#,
        b"",
        br#"{"other": "x"}"#,
        br#"{"text": 5}"#,
        b"{\"text\": \"\xff\"}",
        br#"{"text": "two", "text": "twice"}"#,
        br#"["text"]"#,
        br#"{"text": "three"} and more"#,
        b"   ",
        br#"{"text": "last"}"#,
    ];
    fs::write(&path, lines.join(&b"\r\n"[..])).unwrap();
    let (documents, faults) = all(&path, "text").unwrap();
    assert_eq!(documents, ["one", "twice", "last"]);
    let expected = [
        ("line 2", "expected an object in JSON, got: EOF"),
        ("line 4", "expected a field \"text\""),
        ("line 5", "expected a string in field \"text\", got a number"),
        ("line 6", "expected UTF-8, got another byte at column 11"),
        ("line 8", "expected an object"),
        ("line 9", "trailing characters at column"),
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    for (fault, (place, what)) in faults.iter().zip(expected) {
        assert!(fault.starts_with(&format!("FILE: {place}: ")) && fault.contains(what), "{fault}");
    }
}

#[test]
fn a_mark_of_the_byte_order_is_no_part_of_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.jsonl");
    for (mark, line) in [("\u{feff}", ""), ("\u{feff}\n", ""), ("", "\u{feff}")] {
        fs::write(&path, format!("{mark}{{\"text\": \"one\"}}\n{line}{{\"text\": \"two\"}}\n")).unwrap();
        let (documents, faults) = all(&path, "text").unwrap();
        // It begins a file and no other line.
        let whole: &[&str] = if line.is_empty() { &["one", "two"] } else { &["one"] };
        assert_eq!(
            (&documents[..], faults.len()),
            (whole.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().as_slice(), 2 - whole.len())
        );
    }
}

#[test]
fn bytes_that_are_no_text_are_replaced_where_they_stand() {
    for size in [4, 5, 8, 1000] {
        let text = "one\ntwo three\nfour é\n".as_bytes();
        let bytes = [text, b"\xff\xfe five\n\xe2\x82", text, b"\xf0\x9f"].concat();
        let (mut whole, mut faults, mut ends) = (String::new(), Vec::new(), 0);
        plain::read(&mut &bytes[..], Path::new("FILE"), size, &mut |item| {
            match item {
                Item::Piece(piece) => {
                    assert_eq!(piece.first, whole.is_empty());
                    whole += &piece.text;
                    ends += usize::from(piece.last);
                }
                Item::Fault(fault) => faults.push(fault.to_string()),
            }
            true
        });
        assert_eq!(whole, String::from_utf8_lossy(&bytes), "{size}");
        assert_eq!(ends, 1);
        let places: Vec<_> = faults.iter().map(|fault| fault.split(": ").nth(1).unwrap()).collect();
        let end = bytes.len() - 2;
        assert_eq!(places, ["byte 22", "byte 23", "byte 30", &format!("byte {end}")], "{size}");
    }
}

#[test]
fn a_packed_file_that_is_cut_gives_what_is_there_and_one_fault() {
    let folder = tempfile::tempdir().unwrap();
    for form in ["documents.jsonl.gz", "documents.jsonl.zst"] {
        let whole = fs::read(golden(form)).unwrap();
        let mut seen = 0;
        for cut in (1..whole.len()).step_by(61) {
            let path = folder.path().join(form);
            fs::write(&path, &whole[..cut]).unwrap();
            let (found, faults) = all(&path, "text").unwrap();
            assert!(documents().starts_with(&found), "{form} {cut}");
            // Exactly between the two parts nothing is missing that could be known.
            assert!(faults.len() == 1 || (faults.is_empty() && found.len() > 40), "{form} {cut}: {faults:?}");
            assert!(faults.iter().all(|fault| fault.starts_with("FILE: byte ")), "{faults:?}");
            seen = found.len();
        }
        assert!(seen > 40, "{form}: {seen}");
    }
}

#[test]
fn what_stands_behind_a_packed_file_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("documents.jsonl.gz");
    let whole = fs::read(golden("documents.jsonl.gz")).unwrap();
    for behind in [&b"x"[..], &[0; 3], b"\n", b"more than the bytes of a header"] {
        fs::write(&path, [&whole, behind].concat()).unwrap();
        let (found, faults) = all(&path, "text").unwrap();
        assert_eq!((found, faults.len()), (documents(), 1));
        let expected =
            "expected to read on, got: bytes that are not gzip's, behind a complete member; what stands before";
        assert!(faults[0].contains(expected), "{faults:?}");
    }
}

/// Damage of any byte: no panic, no abort, and nothing endless.
#[test]
fn damaged_files_are_faults() {
    let folder = tempfile::tempdir().unwrap();
    for (form, step) in
        [("documents.jsonl.gz", 97), ("documents.jsonl.zst", 97), ("snappy.parquet", 41), ("zstd-pages-2.parquet", 41)]
    {
        let whole = fs::read(golden(form)).unwrap();
        for at in (0..whole.len()).step_by(step) {
            for value in [0, 0xff, whole[at] ^ 0x10] {
                let path = folder.path().join(form);
                let mut damaged = whole.clone();
                damaged[at] = value;
                fs::write(&path, &damaged).unwrap();
                let _ = all(&path, "text");
            }
        }
    }
}

#[test]
fn folders_and_patterns_stand_for_their_files_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("b/deep")).unwrap();
    for name in [
        "b/2.txt",
        "b/10.txt",
        "b/deep/a.JSONL.gz",
        "b/notes.json",
        "b/.hidden.txt",
        "b/x.py",
        "c.parquet",
        "d.txt.zst",
    ] {
        fs::write(path(name), "x").unwrap();
    }
    let found = |paths: &[&str]| -> Vec<String> {
        let paths: Vec<_> = paths.iter().map(|name| path(name)).collect();
        let name = |file: InputFile| file.path.strip_prefix(folder.path()).unwrap().display().to_string();
        files(&paths).into_iter().map(name).collect()
    };
    assert_eq!(found(&["c.parquet", "b"]), ["c.parquet", "b/10.txt", "b/2.txt", "b/deep/a.JSONL.gz"]);
    assert_eq!(found(&["b/*.txt"]), ["b/.hidden.txt", "b/10.txt", "b/2.txt"]);
    assert_eq!(found(&["[cd].*"]), ["c.parquet", "d.txt.zst"]);
    let kinds: Vec<_> = files(&[path("b"), path("d.txt.zst")]).iter().map(|file| (file.format, file.packing)).collect();
    let [plain, gzip, zstd] = [Packing::None, Packing::Gzip, Packing::Zstd];
    assert_eq!(
        kinds,
        [(Format::Plain, plain), (Format::Plain, plain), (Format::JsonLines, gzip), (Format::Plain, zstd)]
    );
    let fault = |name: &str| find(&[path(name)]).unwrap_err().to_string();
    assert!(fault("missing.txt").contains("no such file"));
    assert!(fault("b/*.bin").contains("by this pattern"));
    fs::create_dir(path("empty")).unwrap();
    assert!(fault("empty").contains("in this folder"));
    fs::write(path("t.bin"), "").unwrap();
    assert!(matches!(find(&[path("t.bin")]).unwrap(), Inputs::Shards(paths) if paths == [path("t.bin")]));
    assert!(matches!(find(&[folder.path().into()]), Err(DataError::Mixed { .. })));
}
