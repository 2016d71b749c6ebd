//! What the runs of a study say together.

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use serde::Serialize;

use super::{
    Arm, Matrix, Measured, Outcome, ResidualStream, RunResult, Study, markdown,
    statistics::{CONFIDENCE, RESAMPLES, bootstrap, mean, standard_deviation},
};
use crate::{TrainError, checkpoint::error::CheckpointError, checkpoint::write_file};

/// The setting that differs from run to run of an arm.
const SEED: &str = "train.seed";
/// The report for programs.
pub(super) const REPORT_FILE: &str = "study.json";

/// The outcome of a study.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the study.
    pub name: String,
    /// Versions of the engine that computed it.
    pub engine_versions: Vec<String>,
    /// Adapters and drivers that computed it.
    pub devices: Vec<String>,
    /// The seeds of every arm.
    pub seeds: Vec<u64>,
    /// Windows of the evaluation set; zero if every run diverged.
    pub windows: usize,
    /// Resamples of the bootstrap, and what an interval covers of them.
    pub resamples: usize,
    /// See `resamples`.
    pub confidence: f64,
    /// The settings that all arms have in common.
    pub settings: BTreeMap<String, String>,
    /// The arms, the first being what the others are compared with.
    pub arms: Vec<ArmReport>,
    /// Time of all steps of all runs.
    pub seconds: f64,
}

/// The outcome of an arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmReport {
    /// Its name.
    pub name: String,
    /// Its folder in the study's.
    pub folder: String,
    /// Its settings, where arms differ.
    pub settings: BTreeMap<String, String>,
    /// Final validation loss of each seed; none of a run that diverged.
    pub validation_loss: Vec<Option<f64>>,
    /// Why runs diverged, as `seed N: reason`.
    pub diverged: Vec<String>,
    /// Over the seeds; none if a run diverged, because those left over are the lucky ones.
    pub loss: Option<Loss>,
    /// To the first arm; none of the first, and if a run of either diverged.
    pub difference: Option<Difference>,
    /// Mean standard deviation of the matrices inside the layers, over the seeds that finished.
    pub matrix_std: Option<f64>,
    /// Largest magnitude of the residual stream, the mean over the seeds, where instruments were on.
    pub residual_absmax: Option<f64>,
    /// Standard deviation of every matrix, the mean over the seeds that finished.
    pub matrices: Vec<Matrix>,
    /// The residual stream after the embedding and each layer, the mean over the seeds that finished.
    pub residual_stream: Vec<ResidualStream>,
    /// Median over the steps, mean over the seeds.
    pub tokens_per_s: f64,
    /// Time of all its steps.
    pub seconds: f64,
}

/// Final validation loss over the seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Loss {
    /// Mean.
    pub mean: f64,
    /// Standard deviation with N - 1; none of one seed.
    pub standard_deviation: Option<f64>,
}

/// Difference of the final validation loss to the first arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Mean.
    pub mean: f64,
    /// Percentile interval of the paired bootstrap over seeds and windows.
    pub interval: [f64; 2],
    /// Of each seed.
    pub by_seed: Vec<f64>,
}

impl Report {
    /// The report of a study whose arms have these results, one per seed.
    ///
    /// # Errors
    /// Runs of different evaluation sets.
    pub(super) fn new(study: &Study, results: &[Vec<RunResult>]) -> Result<Self, TrainError> {
        let entries = study.arms.iter().map(entries).collect::<Result<Vec<_>, _>>()?;
        let shared = |key: &String, value: &String| entries.iter().all(|arm| arm.get(key) == Some(value));
        let first: &[RunResult] = results.first().map_or(&[], Vec::as_slice);
        let all = || results.iter().flatten();
        let windows = same_windows(study, results)?;
        let arms = study.arms.iter().zip(results).zip(&entries).enumerate().map(|(i, ((arm, runs), entries))| {
            let differing = entries.iter().filter(|(key, value)| !shared(key, value));
            let settings = differing.map(|(key, value)| (key.clone(), value.clone())).collect();
            let difference = if i == 0 { None } else { difference(runs, first) };
            ArmReport::new(arm, settings, runs, difference)
        });
        let common = entries.first().into_iter().flatten().filter(|(key, value)| shared(key, value));
        Ok(Self {
            name: study.name.clone(),
            engine_versions: distinct(all().map(|run| run.engine_version.clone())),
            devices: distinct(all().map(|run| format!("{} ({})", run.adapter, run.driver))),
            seeds: study.seeds.clone(),
            windows,
            resamples: RESAMPLES,
            confidence: CONFIDENCE,
            settings: common.map(|(key, value)| (key.clone(), value.clone())).collect(),
            arms: arms.collect(),
            seconds: all().map(|run| run.seconds).sum(),
        })
    }

    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        markdown::report(self)
    }

    /// The table of arms as Markdown: what a person wants to see first.
    pub fn table(&self) -> String {
        markdown::arms(self)
    }

    /// Writes `study.md` and `study.json` into `out`, each whole or not at all.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub(super) fn write(&self, out: &Path) -> Result<(), TrainError> {
        let mut json = serde_json::to_string_pretty(self).map_err(TrainError::settings_format)?;
        json.push('\n');
        for (name, text) in [("study.md", self.to_markdown()), (REPORT_FILE, json)] {
            let (partial, complete) = (out.join(format!("{name}.partial")), out.join(name));
            write_file(&partial, |writer| writer.write_all(text.as_bytes()))?;
            fs::rename(&partial, &complete).map_err(CheckpointError::io("write", &complete))?;
        }
        Ok(())
    }
}

impl ArmReport {
    fn new(arm: &Arm, settings: BTreeMap<String, String>, runs: &[RunResult], difference: Option<Difference>) -> Self {
        let finished: Vec<&Measured> = runs.iter().filter_map(RunResult::measured).collect();
        let over_seeds = |of: &dyn Fn(&Measured) -> Option<f64>| -> Option<f64> {
            let values: Vec<f64> = finished.iter().filter_map(|run| of(run)).collect();
            (!values.is_empty()).then(|| mean(&values))
        };
        let losses: Vec<Option<f64>> =
            runs.iter().map(|run| run.measured().map(|measured| measured.validation_loss)).collect();
        let complete = losses.iter().copied().collect::<Option<Vec<f64>>>();
        let diverged = runs.iter().filter_map(|run| match &run.outcome {
            Outcome::Diverged { reason } => Some(format!("seed {}: {reason}", run.seed)),
            Outcome::Finished(_) => None,
        });
        let depths = finished.first().map_or(0, |run| run.residual_stream.len());
        let stream = |i: usize, of: fn(&ResidualStream) -> f64| {
            over_seeds(&|run: &Measured| run.residual_stream.get(i).map(of)).unwrap_or(f64::NAN)
        };
        let first_matrices = finished.first().map_or(&[][..], |run| &run.matrices);
        let matrices = first_matrices.iter().enumerate().map(|(i, matrix)| {
            let std = over_seeds(&|run: &Measured| run.matrices.get(i).map(|matrix| matrix.std));
            Matrix { std: std.unwrap_or(matrix.std), ..matrix.clone() }
        });
        Self {
            name: arm.name.clone(),
            folder: arm.folder.clone(),
            settings,
            diverged: diverged.collect(),
            loss: complete.map(|losses| Loss { mean: mean(&losses), standard_deviation: standard_deviation(&losses) }),
            validation_loss: losses,
            difference,
            matrix_std: over_seeds(&|run| Some(run.matrix_std())),
            residual_absmax: over_seeds(&Measured::residual_absmax),
            matrices: matrices.collect(),
            residual_stream: (0..depths)
                .map(|i| ResidualStream {
                    absmax: stream(i, |depth| depth.absmax),
                    median: stream(i, |depth| depth.median),
                    kurtosis: stream(i, |depth| depth.kurtosis),
                })
                .collect(),
            tokens_per_s: mean(&runs.iter().map(|run| run.tokens_per_s).collect::<Vec<_>>()),
            seconds: runs.iter().map(|run| run.seconds).sum(),
        }
    }
}

/// The settings of an arm, but for the seed.
fn entries(arm: &Arm) -> Result<BTreeMap<String, String>, TrainError> {
    let mut entries = arm.runs.first().map_or(Ok(BTreeMap::new()), |settings| settings.entries())?;
    entries.remove(SEED);
    Ok(entries)
}

/// None if a run of either arm diverged.
fn difference(runs: &[RunResult], first: &[RunResult]) -> Option<Difference> {
    let pairs: Vec<_> =
        runs.iter().zip(first).map(|(run, first)| Some((run.measured()?, first.measured()?))).collect::<Option<_>>()?;
    let rows: Vec<Vec<f64>> =
        pairs.iter().map(|(a, b)| a.windows.iter().zip(&b.windows).map(|(a, b)| a - b).collect()).collect();
    let by_seed: Vec<f64> = pairs.iter().map(|(a, b)| a.validation_loss - b.validation_loss).collect();
    Some(Difference { mean: mean(&by_seed), interval: bootstrap(&rows), by_seed })
}

/// The number of windows that every finished run was evaluated on.
fn same_windows(study: &Study, results: &[Vec<RunResult>]) -> Result<usize, TrainError> {
    let counts = study.arms.iter().zip(results).flat_map(|(arm, runs)| {
        let finished = runs.iter().filter_map(RunResult::measured);
        finished.map(move |run| (arm, run.windows.len()))
    });
    let mut windows = None;
    for (arm, count) in counts {
        let expected = *windows.get_or_insert(count);
        if count != expected {
            let source = TrainError::Setting {
                name: "evaluation windows".to_owned(),
                expected: expected.to_string(),
                got: count.to_string(),
                origin: "the validation data have changed between runs".to_owned(),
            };
            return Err(TrainError::Arm { arm: arm.name.clone(), source: Box::new(source) });
        }
    }
    Ok(windows.unwrap_or(0))
}

/// Every value once, in order.
fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}
