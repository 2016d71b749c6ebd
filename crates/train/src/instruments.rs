//! Instruments: what weights and residual stream look like, computed on the device, in `metrics.jsonl`.
//!
//! Before the update of a measured step the weights are copied; after it the same phase takes the statistics of the
//! weights and of what the update added, and runs the step's last micro-batch once more through the updated layers to
//! see the residual stream. TVR comes after it.

use std::collections::BTreeMap;

use evenkeel_model::{
    ModelConfig, ParameterSpec,
    transformer::{BatchShape, TrainingTensors, record_streams},
};
use evenkeel_schedule::{DType, Operand, Params, Phase, Recorder, Role, ScheduleError, TensorId, View};
use evenkeel_shaders::{accumulate, magnitude_median, scale};
use serde::Serialize;

use crate::{
    Executor, TrainError,
    segments::{Segments, Statistics, statistics},
    settings::Settings,
};

/// Elements that the median's kernel looks at, at most: of larger streams every second element, or every third, ...
const MEDIAN_ELEMENTS: usize = 1 << 21;

/// Statistics of a weight matrix after a step's update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WeightStatistics {
    /// Standard deviation (N - 1).
    pub std: f64,
    /// Mean.
    pub mean: f64,
    /// Largest absolute value.
    pub absmax: f64,
    /// Norm of what the step's update added, over the norm of the matrix.
    pub update_ratio: f64,
}

/// Statistics of the residual stream h over all tokens and channels of a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StreamStatistics {
    /// max |h|.
    pub absmax: f64,
    /// Median of |h|.
    pub median: f64,
    /// m4 / m2^2: 3 for normal numbers.
    pub kurtosis: f64,
}

/// All of one step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// By parameter name, of every projection, the embedding and the head.
    pub weights: BTreeMap<String, WeightStatistics>,
    /// After the embedding, then after each layer.
    pub residual_stream: Vec<StreamStatistics>,
}

/// The tensors of the instruments.
#[derive(Clone, Debug)]
pub struct Instruments {
    parameters: Vec<ParameterSpec>,
    /// For each arena: segments, statistics of the weights, and of the update.
    weights: Vec<(Segments, [TensorId; 2])>,
    /// (1, 2): a stream as one segment, and what stands there.
    stream: (TensorId, [u32; 2]),
    /// A row for each stream: statistics, then at [`View::ALIGNMENT`] the median.
    streams: TensorId,
}

impl Instruments {
    /// Records [`Phase::Snapshot`] and [`Phase::Measure`].
    pub(crate) fn record(
        r: &mut Recorder,
        config: &ModelConfig,
        training: &TrainingTensors,
        shape: BatchShape,
    ) -> Result<Self, TrainError> {
        let parameters = config.parameters();
        let arenas = r.parameter_arenas();
        let segments = Segments::declare(r, "instruments", &parameters, ParameterSpec::is_matrix)?;
        r.begin_phase(Phase::Snapshot)?;
        let mut copies = Vec::new();
        for segments in &segments {
            let w = arenas[segments.arena];
            let n = r.tensor(w).len();
            let name = format!("instruments.before.{}", segments.arena);
            let copy = r.new_tensor(&name, Role::State, DType::F32, &[("N", n)])?;
            r.scope("instruments", |r| {
                r.run(&accumulate::CARD, Params::dims([("N", n)]), &[w.into(), copy.into()])?;
                r.run(&scale::CARD, Params::dims([("N", n)]).with_scalar("alpha", -1.0), &[copy.into()])
            })?;
            copies.push(copy);
        }
        r.begin_phase(Phase::Measure)?;
        let mut weights = Vec::new();
        for (segments, update) in segments.into_iter().zip(copies) {
            let w = arenas[segments.arena];
            let stats = r.scope("instruments", |r| {
                let params = Params::dims([("N", r.tensor(w).len()), ("accumulate", 1)]);
                r.run(&accumulate::CARD, params, &[w.into(), update.into()])?;
                let keep = |r: &mut Recorder, x, name: &str| {
                    let name = format!("instruments.{name}.{}", segments.arena);
                    let kept = r.new_tensor(&name, Role::State, DType::F32, &[("SEG", segments.len()), ("N", 4)])?;
                    let stats = statistics(r, x, segments.table, segments.len())?;
                    r.run(&accumulate::CARD, Params::dims([("N", 4 * segments.len())]), &[stats.into(), kept.into()])?;
                    Ok::<_, ScheduleError>(kept)
                };
                Ok([keep(r, w, "weights")?, keep(r, update, "updates")?])
            })?;
            weights.push((segments, stats));
        }
        let (stream, streams) = record_stream_statistics(r, config, training, shape)?;
        Ok(Self { parameters, weights, stream, streams })
    }

    /// Writes the tables, once.
    pub(crate) fn prepare(&self, executor: &mut Executor) -> Result<(), TrainError> {
        for (segments, _) in &self.weights {
            executor.write(segments.table, &segments.values)?;
        }
        executor.write(self.stream.0, &self.stream.1)
    }

    /// What is to be read after [`Phase::Measure`], in this order; [`Phase::Snapshot`] ran before the update.
    pub(crate) fn reads(&self) -> Vec<TensorId> {
        self.weights.iter().flat_map(|(_, statistics)| *statistics).chain([self.streams]).collect()
    }

    /// What was read, as statistics.
    pub(crate) fn measurement(&self, read: &[&[f32]]) -> Measurement {
        let mut weights = BTreeMap::new();
        for ((segments, _), read) in self.weights.iter().zip(read.chunks(2)) {
            let (after, update) = (read[0], read[1]);
            for ((&member, after), update) in segments.members.iter().zip(after.chunks(4)).zip(update.chunks(4)) {
                let spec = &self.parameters[member];
                let row = weight_statistics(Statistics::from_row(after), Statistics::from_row(update), spec.elements());
                weights.insert(spec.name.clone(), row);
            }
        }
        let streams = read[2 * self.weights.len()];
        let residual_stream = streams.chunks(2 * View::ALIGNMENT).map(stream_statistics).collect();
        Measurement { weights, residual_stream }
    }
}

impl Settings {
    /// Whether the instruments are read at this step: every interval, and at the end.
    pub fn measures(&self, step: u64) -> bool {
        let interval = self.instruments.interval;
        interval > 0 && (step.is_multiple_of(interval) || step == self.train.steps)
    }
}

/// Records the statistics of every stream of the updated model on the training batch.
fn record_stream_statistics(
    r: &mut Recorder,
    config: &ModelConfig,
    training: &TrainingTensors,
    shape: BatchShape,
) -> Result<((TensorId, [u32; 2]), TensorId), TrainError> {
    let n = shape.rows() * config.hidden_size;
    let table = r.new_tensor("instruments.stream", Role::Constant, DType::U32, &[("SEG", 1), ("N", 2)])?;
    let rows = [("L", config.num_hidden_layers + 1), ("N", 2 * View::ALIGNMENT)];
    let kept = r.new_tensor("instruments.streams", Role::State, DType::F32, &rows)?;
    let streams = r.scope("instruments", |r| record_streams(r, config, training, shape))?;
    r.scope("instruments", |r| {
        for (i, &stream) in streams.iter().enumerate() {
            let first = 2 * i * View::ALIGNMENT;
            let stats = statistics(r, stream, table, 1)?;
            let row = Operand::Part { tensor: kept, offset: first, len: 4 };
            r.run(&accumulate::CARD, Params::dims([("N", 4)]), &[stats.into(), row])?;
            let params = Params::dims([("N", n), ("stride", median_stride(n, config.hidden_size))]);
            let median = Operand::Part { tensor: kept, offset: first + View::ALIGNMENT, len: 1 };
            r.run(&magnitude_median::CARD, params, &[stream.into(), median])?;
        }
        Ok(())
    })?;
    Ok(((table, [0, n as u32]), kept))
}

/// The smallest stride that leaves few enough elements and passes over no column: one without a common factor with C.
fn median_stride(elements: usize, channels: usize) -> usize {
    let coprime = |stride: usize| (2..=stride).all(|d| !(stride.is_multiple_of(d) && channels.is_multiple_of(d)));
    (elements.div_ceil(MEDIAN_ELEMENTS)..).find(|&stride| coprime(stride)).unwrap_or(1)
}

fn weight_statistics(w: Statistics, update: Statistics, elements: usize) -> WeightStatistics {
    let norm = |s: Statistics| (s.std.powi(2) * (elements as f64 - 1.0) + s.mean.powi(2) * elements as f64).sqrt();
    WeightStatistics { std: w.std, mean: w.mean, absmax: w.absmax, update_ratio: norm(update) / norm(w) }
}

fn stream_statistics(row: &[f32]) -> StreamStatistics {
    let Statistics { absmax, kurtosis, .. } = Statistics::from_row(row);
    StreamStatistics { absmax, median: f64::from(row[View::ALIGNMENT]), kurtosis }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_a_large_stream_sees_all_columns() {
        assert_eq!(median_stride(1 << 21, 768), 1);
        assert_eq!(median_stride((1 << 21) + 1, 768), 5);
        assert_eq!(median_stride(1 << 22, 77), 2);
    }

    #[test]
    fn the_norm_behind_the_update_ratio_is_that_of_the_elements() {
        let w = [3.0_f64, -1.0, 2.0, 8.0];
        let mean = w.iter().sum::<f64>() / 4.0;
        let std = (w.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
        let stats = Statistics { mean, std, absmax: 8.0, kurtosis: 0.0 };
        let update = Statistics { mean: 0.1, std: 0.0, ..stats };
        // |w| = sqrt(78), and the update is 0.1 in each of 4 elements.
        let expected = 0.2 / 78.0_f64.sqrt();
        assert!((weight_statistics(stats, update, 4).update_ratio - expected).abs() < 1e-12);
    }
}
