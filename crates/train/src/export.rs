//! A model for other programs: its weights in a dtype of choice, in one file or several, in Hugging Face's layout.
//!
//! The folder grows beside its place under another name and is renamed when everything in it is synced, so that it is
//! complete or not there. One tensor is in memory at a time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use evenkeel_model::ParameterSpec;
use serde_json::{Value, json};

use crate::checkpoint::error::{CheckpointError, excerpt};
use crate::checkpoint::model::{INDEX_FILE, Shards, read_config_text};
use crate::checkpoint::{CONFIG_FILE, MODEL_FILE, write_file};
use crate::run_folder::sync_folder;
use crate::tensor_file::{StoredDtype, TensorFile, TensorWriter};

/// What goes with a model as it is, where there is some: how text becomes tokens, and how to generate.
const COMPANIONS: [&str; 5] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "generation_config.json"];

/// How a model is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct ExportOptions {
    /// Of all tensors.
    pub dtype: StoredDtype,
    /// Bytes of tensors in one file, at most; a larger tensor has a file of its own.
    pub max_shard_bytes: u64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Files that hold them.
    pub files: usize,
}

/// Writes the model of the folder `model` into the new or empty folder `out`; `progress` is told bytes of tensors
/// written, and of how many.
///
/// # Errors
/// A model that does not load; a value beyond the dtype's range; an `out` that holds something; whatever the system
/// refuses. Then `out` is as it was.
pub fn export(
    model: &Path,
    out: &Path,
    options: ExportOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Exported, CheckpointError> {
    let place = std::path::absolute(out).map_err(CheckpointError::io("find", out))?;
    let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
        return Err(CheckpointError::malformed(out, "the path of a new folder", "one that ends in none"));
    };
    require_empty(&place)?;
    let mut export = Export::open(model, options)?;
    let partial = parent.join(format!(".{}.partial", name.to_string_lossy()));
    fs::create_dir_all(parent).map_err(CheckpointError::io("create", parent))?;
    remove(&partial)?;
    let written = export.write(&partial, progress).and_then(|exported| {
        // An empty folder: not every system renames over one.
        if place.exists() {
            fs::remove_dir(&place).map_err(CheckpointError::io("replace", &place))?;
        }
        fs::rename(&partial, &place).map_err(CheckpointError::io("create", &place))?;
        sync_folder(parent)?;
        Ok(exported)
    });
    if written.is_err() {
        // The error is the news; what cannot be removed now goes with the next export to this place.
        let _ = remove(&partial);
    }
    written
}

struct Export<'a> {
    model: &'a Path,
    options: ExportOptions,
    config: Value,
    specs: Vec<ParameterSpec>,
    source: Shards,
}

impl<'a> Export<'a> {
    /// Opens and checks a model, and reads no more than its headers.
    fn open(model: &'a Path, options: ExportOptions) -> Result<Self, CheckpointError> {
        let (config, text) = read_config_text(model)?;
        let mut specs = config.parameters();
        // By name, as checkpoints have it.
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        let source = Shards::open(model, &specs, TensorFile::read)?;
        // What stands there of generation and the like goes on as it is.
        let config = serde_json::from_str(&text).map_err(|e| {
            CheckpointError::malformed(&model.join(CONFIG_FILE), "a JSON object", excerpt(&e.to_string()))
        })?;
        Ok(Self { model, options, config, specs, source })
    }

    fn bytes(&self, spec: &ParameterSpec) -> u64 {
        (spec.elements() * self.options.dtype.size()) as u64
    }

    /// The parameters file by file.
    fn shards(&self) -> Vec<Vec<ParameterSpec>> {
        let mut shards: Vec<Vec<ParameterSpec>> = Vec::new();
        let mut room = 0;
        for spec in &self.specs {
            let bytes = self.bytes(spec);
            match shards.last_mut().filter(|_| bytes <= room) {
                Some(shard) => shard.push(spec.clone()),
                None => {
                    shards.push(vec![spec.clone()]);
                    room = self.options.max_shard_bytes.max(bytes);
                }
            }
            room -= bytes;
        }
        shards
    }

    fn write(&mut self, folder: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Exported, CheckpointError> {
        fs::create_dir(folder).map_err(CheckpointError::io("create", folder))?;
        let parameters = self.specs.iter().map(|spec| spec.elements() as u64).sum();
        let all = self.specs.iter().map(|spec| self.bytes(spec)).sum();
        let shards = self.shards();
        let (mut weight_map, mut done) = (BTreeMap::new(), 0);
        for (i, shard) in shards.iter().enumerate() {
            let name = match shards.len() {
                1 => MODEL_FILE.to_owned(),
                count => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
            };
            self.write_shard(&folder.join(&name), shard, &mut |bytes| {
                done += bytes;
                progress(done, all);
            })?;
            weight_map.extend(shard.iter().map(|spec| (spec.name.clone(), name.clone())));
        }
        if shards.len() > 1 {
            let index = json!({
                "metadata": { "total_parameters": parameters, "total_size": all },
                "weight_map": weight_map,
            });
            write_json(&folder.join(INDEX_FILE), &index)?;
        }
        if let Some(config) = self.config.as_object_mut() {
            // The dtype's name before transformers 5; one of them is enough, and two might differ.
            config.remove("torch_dtype");
            config.insert("dtype".to_owned(), json!(self.options.dtype.in_torch()));
        }
        write_json(&folder.join(CONFIG_FILE), &self.config)?;
        for name in COMPANIONS {
            copy(&self.model.join(name), &folder.join(name))?;
        }
        sync_folder(folder)?;
        Ok(Exported { parameters, bytes: all, files: shards.len() })
    }

    fn write_shard(
        &mut self,
        path: &Path,
        shard: &[ParameterSpec],
        written: &mut dyn FnMut(u64),
    ) -> Result<(), CheckpointError> {
        let dtype = self.options.dtype;
        let described: Vec<_> = shard.iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice())).collect();
        // An error of reading goes past the writer, which knows those of the system alone.
        let mut unread = None;
        let outcome = write_file(path, |w| {
            let mut file = TensorWriter::new(w, dtype, &described)?;
            for spec in shard {
                match self.source.read(spec).and_then(|values| in_range(spec, values, dtype, self.model)) {
                    Ok(values) => file.push(&values)?,
                    Err(error) => {
                        unread = Some(error);
                        return Err(io::Error::from(ErrorKind::InvalidData));
                    }
                }
                written((spec.elements() * dtype.size()) as u64);
            }
            file.finish()
        });
        unread.map_or(outcome, Err)
    }
}

/// The values, if none of them becomes infinite.
fn in_range(
    spec: &ParameterSpec,
    values: Vec<f32>,
    dtype: StoredDtype,
    model: &Path,
) -> Result<Vec<f32>, CheckpointError> {
    match values.iter().position(|&value| !dtype.rounded(value).is_finite()) {
        None => Ok(values),
        Some(index) => Err(CheckpointError::Tensor {
            name: spec.name.clone(),
            expected: format!("values that {} can hold (--dtype f32 holds all)", dtype.name()),
            got: format!("{} at element {index}", values[index]),
            path: model.to_owned(),
        }),
    }
}

fn write_json(path: &Path, value: &Value) -> Result<(), CheckpointError> {
    write_file(path, |w| writeln!(w, "{value:#}"))
}

/// Copies a file, if it is there.
fn copy(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    if !from.is_file() {
        return Ok(());
    }
    let mut source = fs::File::open(from).map_err(CheckpointError::io("open", from))?;
    write_file(to, |w| io::copy(&mut source, w).map(drop))
}

fn require_empty(folder: &Path) -> Result<(), CheckpointError> {
    let expected = "a new or empty folder";
    match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Err(CheckpointError::malformed(folder, expected, "a file"))
        }
        Err(error) => Err(CheckpointError::io("list", folder)(error)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(entry) => {
                let name = entry.map_err(CheckpointError::io("list", folder))?.file_name();
                let got = format!("one that holds {}", excerpt(&name.to_string_lossy()));
                Err(CheckpointError::malformed(folder, expected, got))
            }
        },
    }
}

/// Removes a folder that may be there.
fn remove(folder: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(CheckpointError::io("remove", folder)(error)),
        _ => Ok(()),
    }
}
