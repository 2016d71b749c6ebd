#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A file of the given header and body, written by the definition of the format.
fn raw(header: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self, bytes: &[u8]) -> Result<TensorFile, CheckpointError> {
        let path = self.0.path().join("x.safetensors");
        fs::write(&path, bytes).unwrap();
        TensorFile::open(&path)
    }

    fn error(&self, bytes: &[u8]) -> String {
        let error = self.open(bytes).unwrap_err().to_string();
        assert!(error.contains("x.safetensors"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }
}

const F32_PAIR: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

fn written(tensors: &[TensorRef]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, tensors).unwrap();
    bytes
}

fn tensor<'a>(name: &str, shape: &[usize], data: &'a [f32]) -> TensorRef<'a> {
    TensorRef { name: name.to_owned(), shape: shape.to_vec(), data }
}

#[test]
fn every_stored_dtype_reads_as_f32() {
    // 1, -2.5 and 2^-14 are exact in all three; the bytes are IEEE's by hand.
    let cases: [(&str, &[u8]); 3] = [
        ("F32", &[0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0, 0, 0, 0x80, 0x38]),
        ("F16", &[0, 0x3c, 0, 0xc1, 0, 0x04]),
        ("BF16", &[0x80, 0x3f, 0x20, 0xc0, 0x80, 0x38]),
    ];
    for (dtype, body) in cases {
        let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[3,1],"data_offsets":[0,{}]}}}}"#, body.len());
        let folder = Folder::new();
        let mut file = folder.open(&raw(&header, body)).unwrap();
        assert_eq!(file.names(), ["a"]);
        assert_eq!(file.read("a", &[3, 1]).unwrap(), [1.0, -2.5, 1.0 / 16384.0]);
    }
}

#[test]
fn broken_headers_are_named() {
    let folder = Folder::new();
    let body = [0; 8];
    for (bytes, reason) in [
        (vec![], "got a file of 0 bytes"),
        (vec![1; 7], "got a file of 7 bytes"),
        (raw(F32_PAIR, &body)[..30].to_vec(), "got a declared 54"),
        (vec![0xff; 40], "got a declared 18446744073709551615"),
        (raw("{", &[]), "got EOF"),
        (raw("pickle!", &[]), "got expected value"),
        (raw("\u{1}\n\n", &[]), "got expected value"),
        (raw(F32_PAIR, &body[..7]), "expected 7 bytes of tensors, got a header that describes 8"),
        (raw(F32_PAIR, &[0; 9]), "expected 9 bytes of tensors, got a header that describes 8"),
        (raw(&F32_PAIR.replace("[0,8]", "[0,7]"), &body), "invalid shape"),
        (raw(&F32_PAIR.replace("[0,8]", "[8,16]"), &body), "invalid offset for tensor `a`"),
        (raw(&F32_PAIR.replace("[0,8]", "[8,0]"), &body), "invalid offset for tensor `a`"),
        (raw(&F32_PAIR.replace("[2]", "[4294967296,4294967296]"), &body), "overflow"),
        (raw(&F32_PAIR.replace("F32", "F\\n9"), &body), "unknown variant"),
        (raw(&F32_PAIR.replace("[2]", "[-2]"), &body), "invalid value"),
        (
            raw(
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                &body,
            ),
            "invalid offset for tensor `b`",
        ),
        (raw(&[&F32_PAIR[..F32_PAIR.len() - 1], ",", &F32_PAIR[1..]].concat(), &body), "two entries \"a\""),
        (raw(r#"{"__metadata__":{"a":"1"},"__metadata__":{"a":"1"}}"#, &[]), "two entries \"__metadata__\""),
        (raw(r#"{"__metadata__":{"a":"1","a":"2"}}"#, &[]), "two entries \"a\""),
        (raw(r#"{"__metadata__":{"a":1}}"#, &[]), "expected a string"),
    ] {
        let error = folder.error(&bytes);
        assert!(error.contains(reason), "expected {reason:?} in: {error}");
    }
}

#[test]
fn a_header_of_absurd_length_is_refused_before_it_is_read() {
    let folder = Folder::new();
    let path = folder.0.path().join("x.safetensors");
    let file = File::create(&path).unwrap();
    (&file).write_all(&(1_u64 << 30).to_le_bytes()).unwrap();
    // Sparse: two gibibytes that take no room.
    file.set_len(1 << 31).unwrap();
    let error = TensorFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("at most 16777216 bytes, got a declared 1073741824"), "{error}");
}

#[test]
fn files_that_are_no_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let error = TensorFile::open(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("expected a file, got a folder"), "{error}");
    let missing = TensorFile::open(&folder.path().join("none")).unwrap_err().to_string();
    assert!(missing.starts_with("cannot open ") && missing.contains("none"), "{missing}");
}

#[test]
fn wrong_tensors_are_named() {
    let folder = Folder::new();
    let mut file = folder
        .open(&written(&[
            tensor("ok", &[2], &[1.0, 2.0]),
            tensor("nan", &[3], &[0.0, f32::NAN, 1.0]),
            tensor("inf", &[1], &[f32::NEG_INFINITY]),
        ]))
        .unwrap();
    for (name, shape, message) in [
        ("none", vec![2], "tensor none: expected shape [2], got no such tensor"),
        ("ok", vec![1, 2], "tensor ok: expected shape [1, 2], got [2]"),
        ("nan", vec![3], "tensor nan: expected finite values, got NaN at element 1"),
        ("inf", vec![1], "tensor inf: expected finite values, got -inf at element 0"),
    ] {
        let error = file.read(name, &shape).unwrap_err().to_string();
        assert!(error.starts_with(message) && error.contains("x.safetensors"), "{error}");
    }
    let integers = F32_PAIR.replace("F32", "I64").replace("[2]", "[1]");
    let error = folder.open(&raw(&integers, &[0; 8])).unwrap().read("a", &[1]).unwrap_err();
    assert!(error.to_string().contains("expected dtype F32, F16 or BF16, got I64"), "{error}");
}

#[test]
fn the_bytes_are_those_of_the_format() {
    // What safetensors.torch.save_file(..., metadata={"format": "pt"}) writes for the same tensors.
    let header = concat!(
        r#"{"__metadata__":{"format":"pt"},"#,
        r#""a.w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"#,
        r#""b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#
    );
    let padded = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    let body: Vec<u8> = [1.0_f32, -2.0, 0.5].iter().flat_map(|x| x.to_le_bytes()).collect();
    let (a, b) = (tensor("a.w", &[1, 2], &[1.0, -2.0]), tensor("b", &[1], &[0.5]));
    assert_eq!(written(&[b.clone(), a.clone()]), raw(&padded, &body));
    assert_eq!(written(&[a, b]), raw(&padded, &body));
}

#[test]
fn stored_halves_are_those_of_the_format() {
    // Ties to even on either side, a denormal of f16, and what each cannot hold.
    let data = [1.0, 1.0 + 2.0_f32.powi(-11), 1.0 + 3.0 * 2.0_f32.powi(-11), -6.0e-8, 65519.0, 1.0 + 2.0_f32.powi(-8)];
    let half = [0x3c00_u16, 0x3c00, 0x3c02, 0x8001, 0x7bff, 0x3c04];
    let brain = [0x3f80_u16, 0x3f80, 0x3f80, 0xb381, 0x4780, 0x3f80];
    for (dtype, name, bits) in [(StoredDtype::F16, "F16", half), (StoredDtype::Bf16, "BF16", brain)] {
        let mut bytes = Vec::new();
        let mut writer = TensorWriter::new(&mut bytes, dtype, &[("a", &[2, 3])]).unwrap();
        writer.push(&data).unwrap();
        writer.finish().unwrap();
        let header = format!(
            r#"{{"__metadata__":{{"format":"pt"}},"a":{{"dtype":"{name}","shape":[2,3],"data_offsets":[0,12]}}}}"#
        );
        let padded = format!("{header:<width$}", width = header.len().next_multiple_of(8));
        let body: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        assert_eq!(bytes, raw(&padded, &body), "{name}");
        let rounded = data.map(|value| dtype.rounded(value));
        assert_eq!(Folder::new().open(&bytes).unwrap().read("a", &[2, 3]).unwrap(), rounded, "{name}");
    }
    assert!(StoredDtype::F16.rounded(65520.0).is_infinite());
}

#[test]
fn a_file_gets_as_many_tensors_as_its_header_says() {
    let mut bytes = Vec::new();
    let mut writer = TensorWriter::new(&mut bytes, StoredDtype::F32, &[("a", &[1]), ("b", &[2])]).unwrap();
    assert!(writer.push(&[1.0, 2.0]).unwrap_err().to_string().contains("2 elements for a shape of 1"));
    let mut writer = TensorWriter::new(Vec::new(), StoredDtype::F32, &[("a", &[1]), ("b", &[2])]).unwrap();
    writer.push(&[1.0]).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("1 tensors less"));
}

#[test]
fn tensors_larger_than_a_chunk_round_trip() {
    let data: Vec<f32> = (0..CHUNK + 3).map(|i| i as f32 * 0.25).collect();
    let folder = Folder::new();
    let mut file = folder
        .open(&written(&[
            tensor("large", &[data.len()], &data),
            tensor("empty", &[0], &[]),
            tensor("scalar", &[], &[7.0]),
        ]))
        .unwrap();
    assert_eq!(file.read("large", &[data.len()]).unwrap(), data);
    assert_eq!(file.read("empty", &[0]).unwrap(), [0.0; 0]);
    assert_eq!(file.read("scalar", &[]).unwrap(), [7.0]);
}

#[test]
fn contradictory_tensors_are_not_written() {
    for tensors in [vec![tensor("a", &[3], &[1.0, 2.0])], vec![tensor("a", &[1], &[1.0]), tensor("a", &[1], &[1.0])]] {
        let mut bytes = Vec::new();
        let error = write_tensors(&mut bytes, &tensors).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(bytes.is_empty());
    }
}

/// A disk with room for some bytes.
struct SmallDisk(usize);

impl Write for SmallDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_fills_up_at_any_byte_is_an_error() {
    let tensors = [tensor("a", &[3], &[1.0, 2.0, 3.0]), tensor("b", &[1], &[4.0])];
    let length = written(&tensors).len();
    for room in 0..length {
        let error = write_tensors(SmallDisk(room), &tensors).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
    write_tensors(SmallDisk(length), &tensors).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// Whatever happens to a file, it reads or is a one-line error; what is read is no larger than the file.
    #[test]
    fn mutated_files_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        text in prop::option::of((any::<prop::sample::Index>(), "[0-9\\[\\],:{}\"aeFU-]{1,12}")),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = written(&[
            tensor("a", &[2, 2], &[1.0, 2.0, 3.0, 4.0]),
            tensor("b", &[3], &[1.0, 2.0, 3.0]),
        ]);
        if let Some((at, text)) = text {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + text.len());
            bytes[at..end].copy_from_slice(&text.as_bytes()[..end - at]);
        }
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = Folder::new();
        match folder.open(&bytes) {
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
            Ok(mut file) => {
                for name in file.names() {
                    let shape = file.shape(&name).unwrap().to_vec();
                    match file.read(&name, &shape) {
                        Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
                        Ok(values) => prop_assert!(values.len() * 2 <= bytes.len()),
                    }
                }
            }
        }
    }
}
