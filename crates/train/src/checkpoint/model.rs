//! Loading a model from a folder in Hugging Face's layout: Evenkeel's own checkpoints and published models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evenkeel_model::config::ModelConfig;
use evenkeel_model::parameters::{ParameterKind, ParameterSpec};

use super::error::{CheckpointError, excerpt};
use super::{CONFIG_FILE, MODEL_FILE};
use crate::tensor_file::{TensorFile, read_text};

const INDEX_FILE: &str = "model.safetensors.index.json";
/// Name of an untied model's head.
const HEAD: &str = "lm_head.weight";
/// What old LLaMA checkpoints store beside the parameters: a table that follows from the config.
const DERIVED_SUFFIX: &str = ".self_attn.rotary_emb.inv_freq";
const MAX_CONFIG: u64 = 1 << 20;
const MAX_INDEX: u64 = 16 << 20;

/// Reads and checks the `config.json` of a model folder.
///
/// # Errors
/// A folder or file that cannot be read, and whatever [`ModelConfig::from_json`] refuses.
pub fn read_config(folder: &Path) -> Result<ModelConfig, CheckpointError> {
    require_folder(folder)?;
    let path = folder.join(CONFIG_FILE);
    let text = read_text(&path, MAX_CONFIG)?;
    ModelConfig::from_json(&text).map_err(|source| CheckpointError::Config { path, source })
}

/// Reads the parameters `specs` of a model folder as f32, in the order of `specs`.
///
/// The weights are f32, f16 or bf16, in one `model.safetensors` or in the files that `model.safetensors.index.json`
/// lists. A tied model may carry an `lm_head.weight` that equals its embedding.
///
/// # Errors
/// Files that cannot be read or are malformed; a tensor that is missing, unexpected, of another shape or dtype than
/// its spec, or not finite.
pub fn load_parameters(folder: &Path, specs: &[ParameterSpec]) -> Result<Vec<Vec<f32>>, CheckpointError> {
    load(folder, specs, TensorFile::read)
}

/// Reads the parameters as [`load_parameters`] does, whether or not they are finite: to look at, not to compute with.
///
/// # Errors
/// As there, but for values that are not finite.
pub fn load_as_stored(folder: &Path, specs: &[ParameterSpec]) -> Result<Vec<Vec<f32>>, CheckpointError> {
    load(folder, specs, TensorFile::read_as_stored)
}

/// How a tensor of a name and shape is read from a file.
type Read = fn(&mut TensorFile, &str, &[usize]) -> Result<Vec<f32>, CheckpointError>;

fn load(folder: &Path, specs: &[ParameterSpec], read: Read) -> Result<Vec<Vec<f32>>, CheckpointError> {
    let mut shards = Shards::open(folder, read)?;
    shards.require_exactly(specs)?;
    let parameters = specs.iter().map(|spec| shards.read(&spec.name, &spec.shape)).collect::<Result<Vec<_>, _>>()?;
    for (spec, embedding) in specs.iter().zip(&parameters) {
        if spec.kind == ParameterKind::Embedding && shards.has_spare_head(specs) {
            shards.require_tied(spec, embedding)?;
        }
    }
    Ok(parameters)
}

/// The weight files of one model.
struct Shards {
    folder: PathBuf,
    files: Vec<TensorFile>,
    read: Read,
    /// Which of the files holds a tensor.
    holders: BTreeMap<String, usize>,
}

impl Shards {
    fn open(folder: &Path, read: Read) -> Result<Self, CheckpointError> {
        require_folder(folder)?;
        let whole = folder.join(MODEL_FILE);
        let index = folder.join(INDEX_FILE);
        let weight_map = match (whole.exists(), index.exists()) {
            (true, _) => BTreeMap::new(),
            (false, true) => read_index(&index)?,
            (false, false) => {
                let expected = format!("a {MODEL_FILE} or {INDEX_FILE} inside");
                return Err(CheckpointError::malformed(folder, expected, "neither"));
            }
        };
        let mut names: Vec<&str> = weight_map.values().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            names.push(MODEL_FILE);
        }
        let mut shards =
            Self { folder: folder.to_owned(), files: Vec::with_capacity(names.len()), read, holders: BTreeMap::new() };
        for name in &names {
            shards.add(TensorFile::open(&folder.join(name))?)?;
        }
        for (tensor, file) in &weight_map {
            let holder = shards.holders.get(tensor).map(|&index| names[index]);
            if holder != Some(file.as_str()) {
                let expected = format!("tensor {}, as {INDEX_FILE} says", excerpt(tensor));
                let path = folder.join(file);
                return Err(CheckpointError::malformed(&path, expected, "no such tensor"));
            }
        }
        Ok(shards)
    }

    fn add(&mut self, file: TensorFile) -> Result<(), CheckpointError> {
        for name in file.names() {
            let got = format!("tensor {}", excerpt(&name));
            if self.holders.insert(name, self.files.len()).is_some() {
                let expected = "tensors that no other file of the model has";
                return Err(CheckpointError::malformed(file.path(), expected, got));
            }
        }
        self.files.push(file);
        Ok(())
    }

    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        match self.holders.get(name) {
            Some(&index) => (self.read)(&mut self.files[index], name, shape),
            None => Err(self.missing(name, shape)),
        }
    }

    /// Checks names before anything is read: a wrong folder is told at once.
    fn require_exactly(&self, specs: &[ParameterSpec]) -> Result<(), CheckpointError> {
        let mut spare = self.holders.clone();
        for spec in specs {
            if spare.remove(&spec.name).is_none() {
                return Err(self.missing(&spec.name, &spec.shape));
            }
        }
        spare.retain(|name, _| !name.ends_with(DERIVED_SUFFIX));
        if self.has_spare_head(specs) {
            spare.remove(HEAD);
        }
        match spare.pop_first() {
            None => Ok(()),
            Some((name, index)) => Err(CheckpointError::UnexpectedTensor {
                name: excerpt(&name),
                shape: self.files[index].shape(&name).unwrap_or(&[]).to_vec(),
                path: self.files[index].path().to_owned(),
            }),
        }
    }

    /// Whether a tied model's files have a head all the same, as some published ones do.
    fn has_spare_head(&self, specs: &[ParameterSpec]) -> bool {
        self.holders.contains_key(HEAD) && specs.iter().all(|spec| spec.kind != ParameterKind::Head)
    }

    fn require_tied(&mut self, embedding: &ParameterSpec, values: &[f32]) -> Result<(), CheckpointError> {
        let head = self.read(HEAD, &embedding.shape)?;
        match head.iter().zip(values).position(|(a, b)| a != b) {
            None => Ok(()),
            Some(index) => Err(CheckpointError::Tensor {
                name: HEAD.to_owned(),
                expected: format!("the values of {} (tie_word_embeddings)", embedding.name),
                got: format!("{} for {} at element {index}", head[index], values[index]),
                path: self.folder.clone(),
            }),
        }
    }

    fn missing(&self, name: &str, shape: &[usize]) -> CheckpointError {
        CheckpointError::MissingTensor { name: name.to_owned(), shape: shape.to_vec(), path: self.folder.clone() }
    }
}

/// The map from tensor to file name of a sharded model. The names stay inside of the folder.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = read_text(path, MAX_INDEX)?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|e| CheckpointError::malformed(path, "a weight_map in JSON", excerpt(&e.to_string())))?;
    if index.weight_map.is_empty() {
        return Err(CheckpointError::malformed(path, "a weight_map of tensors", "an empty one"));
    }
    for file in index.weight_map.values() {
        if Path::new(file).file_name() != Some(file.as_ref()) {
            return Err(CheckpointError::malformed(path, "plain file names", excerpt(file)));
        }
    }
    Ok(index.weight_map)
}

fn require_folder(folder: &Path) -> Result<(), CheckpointError> {
    let kind = std::fs::metadata(folder).map_err(CheckpointError::io("open", folder))?;
    if kind.is_dir() { Ok(()) } else { Err(CheckpointError::malformed(folder, "a model folder", "a file")) }
}

#[cfg(test)]
mod tests;
