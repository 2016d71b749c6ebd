//! Loading a model from a folder in Hugging Face's layout: Evenkeel's own checkpoints and published models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evenkeel_model::config::ModelConfig;
use evenkeel_model::parameters::{ParameterKind, ParameterSpec};

use super::error::{CheckpointError, excerpt};
use super::{CONFIG_FILE, MODEL_FILE};
use crate::tensor_file::{TensorFile, read_text};
use crate::unique_keys::UniqueKeys;

pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";
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
    read_config_text(folder).map(|(config, _)| config)
}

/// As [`read_config`], with the text it came from.
pub(crate) fn read_config_text(folder: &Path) -> Result<(ModelConfig, String), CheckpointError> {
    require_folder(folder)?;
    let path = folder.join(CONFIG_FILE);
    let text = read_text(&path, MAX_CONFIG)?;
    let config = ModelConfig::from_json(&text).map_err(|source| CheckpointError::Config { path, source })?;
    Ok((config, text))
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
    let mut shards = Shards::open(folder, specs, read)?;
    specs.iter().map(|spec| shards.read(spec)).collect()
}

/// The weight files of one model.
pub(crate) struct Shards {
    folder: PathBuf,
    files: Vec<TensorFile>,
    read: Read,
    /// Which of the files holds a tensor.
    holders: BTreeMap<String, usize>,
    /// Whether the files of a tied model have a head all the same, as some published ones do.
    spare_head: bool,
}

impl Shards {
    /// Opens the files and checks that they have the tensors `specs` and no others: a wrong folder is told before
    /// anything is read.
    pub(crate) fn open(folder: &Path, specs: &[ParameterSpec], read: Read) -> Result<Self, CheckpointError> {
        let mut shards = Self::find(folder, read)?;
        let untied = specs.iter().any(|spec| spec.kind == ParameterKind::Head);
        shards.spare_head = !untied && shards.holders.contains_key(HEAD);
        shards.require_exactly(specs)?;
        Ok(shards)
    }

    fn find(folder: &Path, read: Read) -> Result<Self, CheckpointError> {
        require_folder(folder)?;
        let whole = folder.join(MODEL_FILE);
        let index = folder.join(INDEX_FILE);
        let weight_map = match (whole.exists(), index.exists()) {
            (true, _) => BTreeMap::new(),
            (false, true) => read_index(&index)?,
            (false, false) => {
                let expected = format!("a {MODEL_FILE} or {INDEX_FILE} inside");
                let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
                let got = pickled.into_iter().find(|name| folder.join(name).exists());
                return Err(CheckpointError::malformed(folder, expected, got.unwrap_or("neither")));
            }
        };
        let mut names: Vec<&str> = weight_map.values().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            names.push(MODEL_FILE);
        }
        let mut shards = Self {
            folder: folder.to_owned(),
            files: Vec::with_capacity(names.len()),
            read,
            holders: BTreeMap::new(),
            spare_head: false,
        };
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

    /// Reads a parameter.
    pub(crate) fn read(&mut self, spec: &ParameterSpec) -> Result<Vec<f32>, CheckpointError> {
        let values = self.tensor(&spec.name, &spec.shape)?;
        if spec.kind == ParameterKind::Embedding && self.spare_head {
            self.require_tied(spec, &values)?;
        }
        Ok(values)
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        match self.holders.get(name) {
            Some(&index) => (self.read)(&mut self.files[index], name, shape),
            None => Err(self.missing(name, shape)),
        }
    }

    fn require_exactly(&self, specs: &[ParameterSpec]) -> Result<(), CheckpointError> {
        let mut spare = self.holders.clone();
        for spec in specs {
            if spare.remove(&spec.name).is_none() {
                return Err(self.missing(&spec.name, &spec.shape));
            }
        }
        spare.retain(|name, _| !name.ends_with(DERIVED_SUFFIX));
        if self.spare_head {
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

    fn require_tied(&mut self, embedding: &ParameterSpec, values: &[f32]) -> Result<(), CheckpointError> {
        let head = self.tensor(HEAD, &embedding.shape)?;
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
        weight_map: UniqueKeys<String>,
    }
    let text = read_text(path, MAX_INDEX)?;
    let Index { weight_map: UniqueKeys(weight_map) } = serde_json::from_str(&text)
        .map_err(|e| CheckpointError::malformed(path, "a weight_map in JSON", excerpt(&e.to_string())))?;
    if weight_map.is_empty() {
        return Err(CheckpointError::malformed(path, "a weight_map of tensors", "an empty one"));
    }
    for file in weight_map.values() {
        if Path::new(file).file_name() != Some(file.as_ref()) {
            return Err(CheckpointError::malformed(path, "plain file names", excerpt(file)));
        }
    }
    Ok(weight_map)
}

fn require_folder(folder: &Path) -> Result<(), CheckpointError> {
    let kind = std::fs::metadata(folder).map_err(CheckpointError::io("open", folder))?;
    if kind.is_dir() { Ok(()) } else { Err(CheckpointError::malformed(folder, "a model folder", "a file")) }
}

#[cfg(test)]
mod tests;
