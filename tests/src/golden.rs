//! Golden models: what PyTorch computes for three tiny LLaMAs, from `assets/golden`.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use evenkeel_model::ModelConfig;
use evenkeel_train::checkpoint::model::{load_parameters, read_config};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// One golden model, in memory.
#[derive(Debug)]
pub struct Golden {
    /// Its folder, in Hugging Face's layout.
    pub folder: PathBuf,
    /// Its shape.
    pub config: ModelConfig,
    /// Initial weights, in the order of `config.parameters()`.
    pub weights: Vec<Vec<f32>>,
    /// Steps, B, T.
    pub extents: [usize; 3],
    /// The stream of ids that all steps read, the last target included.
    pub stream: Vec<u16>,
    /// Hyper-parameters.
    pub hyperparameters: Value,
    tensors: BTreeMap<String, Vec<f64>>,
}

impl Golden {
    /// Reads `assets/golden/NAME`.
    ///
    /// # Errors
    /// A fixture that is not what it should be.
    pub fn load(name: &str) -> Result<Self, Box<dyn Error>> {
        // Cargo names the package's folder when it runs a test, too; `benches/gpu.sh` does so where the folder was not built.
        let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let folder = Path::new(&package).join("../assets/golden").join(name);
        let config = read_config(&folder)?;
        let weights = load_parameters(&folder, &config.parameters())?;
        let bytes = fs::read(folder.join("golden.safetensors"))?;
        let file = SafeTensors::deserialize(&bytes)?;
        let tensors =
            file.tensors().into_iter().map(|(name, view)| (name, numbers(view.dtype(), view.data()))).collect();
        let extents = <[usize; 3]>::try_from(file.tensor("tokens")?.shape())?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
        let text = metadata.metadata().as_ref().and_then(|map| map.get("hyperparameters"));
        let hyperparameters = serde_json::from_str(text.ok_or("golden: expected hyperparameters, got none")?)?;
        let mut golden = Self { folder, config, weights, extents, stream: Vec::new(), hyperparameters, tensors };
        let last = golden.tensor("targets").last().copied();
        golden.stream = golden.tensor("tokens").iter().copied().chain(last).map(|id| id as u16).collect();
        Ok(golden)
    }

    /// The values of a golden tensor.
    ///
    /// # Panics
    /// Where there is none of that name.
    pub fn tensor(&self, name: &str) -> &[f64] {
        &self.tensors[name]
    }

    /// A hyper-parameter.
    ///
    /// # Panics
    /// Where there is none of that name.
    pub fn number(&self, name: &str) -> f64 {
        self.hyperparameters[name].as_f64().unwrap_or_else(|| panic!("golden: expected the number {name}"))
    }

    /// Writes the stream as a token shard.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_shard(&self, path: &Path) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let header = [20_240_520, 1, self.stream.len() as i32];
        (0..256).for_each(|i| bytes.extend(header.get(i).copied().unwrap_or(0).to_le_bytes()));
        self.stream.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
        fs::write(path, bytes)
    }
}

fn numbers(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        Dtype::F64 => bytemuck::pod_collect_to_vec::<u8, f64>(bytes),
        Dtype::I32 => bytemuck::pod_collect_to_vec::<u8, i32>(bytes).into_iter().map(f64::from).collect(),
        Dtype::F32 => bytemuck::pod_collect_to_vec::<u8, f32>(bytes).into_iter().map(f64::from).collect(),
        other => panic!("golden: expected f64, f32 or i32, got {other:?}"),
    }
}

/// Largest absolute difference.
pub fn largest_difference(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    // f64::max drops a NaN, which must not pass.
    got.iter().zip(expected).map(|(&got, &expected)| (f64::from(got) - expected).abs()).fold(
        0.0,
        |largest, difference| {
            if difference <= largest { largest } else { difference }
        },
    )
}
