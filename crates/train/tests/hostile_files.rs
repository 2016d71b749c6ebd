//! What files that lie can do: be refused, in one line, for memory in proportion to their own length.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;

use evenkeel_model::ModelConfig;
use evenkeel_train::checkpoint::model::{load_parameters, read_config};
use evenkeel_train::tensor_file::TensorFile;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The system's allocator, with a count of what each thread has.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    LIVE.set(LIVE.get() + bytes);
    PEAK.set(PEAK.get().max(LIVE.get()));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's pointer, which came from this allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes that this thread had while it ran `action`, beyond what it had before.
fn peak<T>(action: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = action();
    (result, (PEAK.get() - before) as usize)
}

/// Of a header all names and entries are kept, in trees and maps; of a body twice its f16. The rest is paths and the
/// words of errors.
const PER_BYTE: usize = 24;
const CONSTANT: usize = 16 << 10;

fn raw(header: &[u8], body: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, body].concat()
}

/// Opens a file and reads whatever it says it has; a refusal is one line.
fn read_all(path: &Path) -> Result<usize, String> {
    let mut file = TensorFile::open(path).map_err(|error| error.to_string())?;
    let mut elements = 0;
    for name in file.names() {
        let shape = file.shape(&name).unwrap_or(&[]).to_vec();
        elements += file.read(&name, &shape).map_or(0, |values| values.len());
    }
    Ok(elements)
}

fn check_bounded(bytes: &[u8]) -> Result<usize, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    let (read, most) = peak(|| read_all(&path));
    let bound = PER_BYTE * bytes.len() + CONSTANT;
    assert!(most <= bound, "a file of {} bytes: expected at most {bound} bytes of memory, got {most}", bytes.len());
    if let Err(error) = &read {
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    read
}

/// Numbers at which sums and products of sizes break.
fn extreme() -> impl Strategy<Value = Value> {
    let numbers = [0, 1, 2, 3, 4, 8, 12, 255, 1 << 31, u64::from(u32::MAX), 1 << 61, 1 << 62, 1 << 63, u64::MAX];
    prop_oneof![
        9 => prop::sample::select(numbers.to_vec()).prop_map(|n| json!(n)),
        1 => prop::sample::select(vec![json!(-1), json!(1.5), json!(1e300), json!("4"), json!(null), json!([2])]),
    ]
}

fn entry() -> impl Strategy<Value = Value> {
    let dtypes = ["F32", "F16", "BF16", "F64", "I64", "BOOL", "F4", "F8_E4M3", "f32", "F32\n", ""];
    let shape = prop::collection::vec(extreme(), 0..5).prop_map(Value::from);
    let offsets = prop::collection::vec(extreme(), 1..4).prop_map(Value::from);
    (prop::sample::select(dtypes.to_vec()), shape, offsets, any::<bool>()).prop_map(|(dtype, shape, offsets, more)| {
        let mut entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
        if more {
            entry["more"] = json!({ "deep": [[[1]]] });
        }
        entry
    })
}

/// Entries of a few names, so that some stand twice, in the order they are drawn.
fn header() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "__metadata__", "", "model.norm.weight"]);
    let texts = Just(json!({ "format": "pt" }));
    let value = prop_oneof![8 => entry(), 1 => texts, 1 => extreme()];
    prop::collection::vec((name, value), 0..6).prop_map(|entries| {
        let entries: Vec<String> = entries.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
        format!("{{{}}}", entries.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn headers_of_extremes_never_panic_or_cost_more_than_their_file(header in header(), body in 0_usize..64) {
        let _ = check_bounded(&raw(header.as_bytes(), &vec![0; body]));
    }

    /// Tensors that fill the body but for one change.
    #[test]
    fn headers_with_one_lie_are_refused(
        sizes in prop::collection::vec(1_usize..6, 1..5),
        at in any::<prop::sample::Index>(),
        lie in 0..6,
    ) {
        let (mut entries, mut end) = (Vec::new(), 0);
        for &size in &sizes {
            entries.push(json!({ "dtype": "F32", "shape": [size], "data_offsets": [end, end + 4 * size] }));
            end += 4 * size;
        }
        let text = |entries: &[Value]| {
            let entries: Vec<String> = entries.iter().enumerate().map(|(i, entry)| format!("\"t{i}\":{entry}")).collect();
            format!("{{{}}}", entries.join(","))
        };
        let body = vec![0; end];
        prop_assert_eq!(check_bounded(&raw(text(&entries).as_bytes(), &body)), Ok(end / 4));
        let entry = &mut entries[at.index(sizes.len())];
        match lie {
            0 => entry["shape"] = json!([u64::MAX, 2]),
            1 => entry["shape"] = json!([1_u64 << 62]),
            2 => entry["data_offsets"] = json!([entry["data_offsets"][0], u64::MAX]),
            3 => entry["data_offsets"] = json!([entry["data_offsets"][1], entry["data_offsets"][0]]),
            4 => entry["data_offsets"] = json!([1_u64 << 40, (1_u64 << 40) + 4]),
            _ => entry["dtype"] = json!("F64"),
        }
        prop_assert!(check_bounded(&raw(text(&entries).as_bytes(), &body)).is_err());
    }
}

/// Headers that are nothing but what a parser keeps: many entries, many extents, many texts, much nesting.
#[test]
fn long_headers_cost_memory_in_proportion() {
    let entry = |i: usize| format!("\"{i}\":{{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let entries = format!("{{{}}}", (0..20_000).map(entry).collect::<Vec<_>>().join(","));
    assert!(check_bounded(&raw(entries.as_bytes(), &[])).is_ok());
    let shape = vec!["0"; 500_000].join(",");
    let extents = format!("{{\"a\":{{\"dtype\":\"I8\",\"shape\":[{shape}],\"data_offsets\":[0,0]}}}}");
    assert!(check_bounded(&raw(extents.as_bytes(), &[])).is_ok());
    let texts: Vec<String> = (0..50_000).map(|i| format!("\"{i}\":\"\"")).collect();
    assert!(check_bounded(&raw(format!("{{\"__metadata__\":{{{}}}}}", texts.join(",")).as_bytes(), &[])).is_ok());
    for text in ["[".repeat(500_000), "{\"a\":".repeat(200_000), format!("{{\"a\":{}", "[".repeat(500_000))] {
        assert!(check_bounded(&raw(text.as_bytes(), &[])).is_err());
    }
}

/// A model folder in which one file lies: refused before anything of the size that it tells is allocated.
#[test]
fn models_that_claim_to_be_vast_are_refused_at_once() {
    let config = |hidden: u64, layers: u64| {
        json!({
            "hidden_size": hidden, "intermediate_size": hidden, "num_hidden_layers": layers,
            "num_attention_heads": 1, "vocab_size": hidden, "head_dim": 2,
        })
    };
    let small = ModelConfig::from_value(&config(2, 1)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut header, mut end) = (json!({}), 0);
    for spec in small.parameters() {
        let size = 4 * spec.elements();
        header[&spec.name] = json!({ "dtype": "F32", "shape": spec.shape, "data_offsets": [end, end + size] });
        end += size;
    }
    fs::write(folder.path().join("model.safetensors"), raw(header.to_string().as_bytes(), &vec![0; end])).unwrap();
    let load = |config: Value| {
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        peak(|| {
            let config = read_config(folder.path()).map_err(|error| error.to_string())?;
            load_parameters(folder.path(), &config.parameters()).map(drop).map_err(|error| error.to_string())
        })
    };
    let (loaded, _) = load(config(2, 1));
    loaded.unwrap();
    for (vast, part) in [(config(1 << 20, 1), "expected shape"), (config(2, 1000), "no such tensor")] {
        let (refused, most) = load(vast);
        let error = refused.unwrap_err();
        assert!(error.contains(part) && error.lines().count() == 1, "{error}");
        // A thousand layers are nine thousand names and shapes.
        assert!(most < 4 << 20, "{most} bytes");
    }
}
