//! What there is to see in a checkpoint, computed on the host in f64; [`run`] has what there is to see in a run.

pub mod run;

use std::collections::HashMap;
use std::path::Path;

use evenkeel_model::{ModelConfig, ParameterSpec};
use serde::Serialize;

use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::model::{load_as_stored, read_config};

/// The distribution of a tensor's elements. Where an element is not finite, neither is what depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Statistics {
    /// Mean.
    pub mean: f64,
    /// Standard deviation by N - 1; none of a single element.
    pub std: Option<f64>,
    /// Largest magnitude.
    pub absmax: f64,
    /// Fourth central moment over the square of the second, both by N: 3 for a normal distribution. None where all
    /// elements are equal.
    pub kurtosis: Option<f64>,
    /// Elements that are not finite.
    pub non_finite: usize,
}

impl Statistics {
    /// The statistics of `values`, in two passes: the mean first, then the moments around it.
    #[must_use]
    pub fn of(values: &[f32]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let (mut squares, mut fourths) = (0.0, 0.0);
        let (mut absmax, mut non_finite) = (0.0_f64, 0);
        for &value in values {
            let square = (f64::from(value) - mean).powi(2);
            squares += square;
            fourths += square * square;
            non_finite += usize::from(!value.is_finite());
            // Unlike f64::max, this keeps a NaN.
            let magnitude = f64::from(value.abs());
            absmax = if magnitude <= absmax || absmax.is_nan() { absmax } else { magnitude };
        }
        Self {
            mean,
            std: (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()),
            absmax,
            kurtosis: (squares != 0.0).then(|| count * fourths / (squares * squares)),
            non_finite,
        }
    }
}

/// Where a weight stands in the model, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role<'a> {
    /// The last part of the module's name, such as `q_proj`: what the weights of one role in all layers share.
    pub name: &'a str,
    /// The decoder layer, from 1; none outside of the layers.
    pub layer: Option<usize>,
}

impl<'a> Role<'a> {
    /// The role of the parameter called `name`.
    #[must_use]
    pub fn of(name: &'a str) -> Self {
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let index = module.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse().ok());
        Self { name: module.rsplit('.').next().unwrap_or(module), layer: index.map(|index: usize| index + 1) }
    }
}

/// A parameter of a checkpoint.
#[derive(Debug)]
pub struct Tensor {
    /// Name, shape and kind.
    pub spec: ParameterSpec,
    /// Its elements, row by row, finite or not.
    pub values: Vec<f32>,
    /// Their distribution.
    pub statistics: Statistics,
    /// How far a matrix of layer l keeps to the law of layer index rescaling, std_l = std_1 / sqrt(l):
    /// `std_l * sqrt(l) / std_1`, 1 on the law. None outside of the layers, and where std_1 is zero.
    pub lir_share: Option<f64>,
}

impl Tensor {
    /// The layer, from 1, of a matrix inside one.
    #[must_use]
    pub fn layer(&self) -> Option<usize> {
        self.spec.layer().map(|layer| layer + 1)
    }
}

/// A model read to be looked at.
#[derive(Debug)]
pub struct Model {
    /// Its shape.
    pub config: ModelConfig,
    /// Every parameter, in the order of `config.parameters()`.
    pub tensors: Vec<Tensor>,
}

impl Model {
    /// Reads a model folder.
    ///
    /// # Errors
    /// Whatever is wrong with the configuration or the weights, but for values that are not finite.
    pub fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let config = read_config(folder)?;
        let specs = config.parameters();
        let values = load_as_stored(folder, &specs)?;
        let mut firsts = HashMap::new();
        let mut tensors: Vec<Tensor> = Vec::with_capacity(specs.len());
        for (spec, values) in specs.into_iter().zip(values) {
            let statistics = Statistics::of(&values);
            let mut tensor = Tensor { spec, values, statistics, lir_share: None };
            if let (Some(layer), Some(std)) = (tensor.layer(), statistics.std) {
                let first = *firsts.entry(Role::of(&tensor.spec.name).name.to_owned()).or_insert(std);
                tensor.lir_share = (first != 0.0).then(|| std * (layer as f64).sqrt() / first);
            }
            tensors.push(tensor);
        }
        Ok(Self { config, tensors })
    }
}

/// The density of `values` in `bins` bins of equal width from `-reach` to `reach`: the share of all elements in a bin
/// over the bin's width. Elements outside of the bins count in the whole, and so do those that are not finite.
#[must_use]
pub fn density(values: &[f32], reach: f64, bins: usize) -> Vec<f64> {
    let width = 2.0 * reach / bins as f64;
    let mut counts = vec![0_u64; bins];
    for &value in values {
        let place = (f64::from(value) + reach) / width;
        if place >= 0.0 && place < bins as f64 {
            counts[place as usize] += 1;
        }
    }
    counts.into_iter().map(|count| count as f64 / (values.len() as f64 * width)).collect()
}

#[cfg(test)]
mod tests;
