//! The runs of a study, one after the other, each where it stopped.

use std::path::{Path, PathBuf};

use evenkeel_data::{DataError, Windows};

use super::{Arm, Report, RunResult, Study, grid::other_tokens, report::REPORT_FILE, result::divergence};
use crate::{
    Compute, Destination, Setup, TrainError, Watch,
    checkpoint::error::{CheckpointError, excerpt},
    fixed_set, pretrain,
    run_folder::{RUN_FILE, RunFolder, require_writable},
    settings::Settings,
};

/// The runs of a study in a folder, checked against what is there.
#[derive(Debug)]
pub struct Plan<'a> {
    study: &'a Study,
    out: PathBuf,
    runs: Vec<PlannedRun<'a>>,
}

/// One run of a study.
#[derive(Debug)]
pub struct PlannedRun<'a> {
    /// Its arm.
    pub arm: &'a Arm,
    /// Its settings.
    pub settings: &'a Settings,
    /// Its folder.
    pub folder: PathBuf,
    /// Whether its folder has a run file.
    begun: bool,
    result: Option<RunResult>,
    /// Floating-point operations of all its steps; zero before it is set up and if there is nothing left to do.
    work: f64,
}

/// Where a study stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position<'a> {
    /// The run that begins, from 1.
    pub run: usize,
    /// Runs in all.
    pub runs: usize,
    /// Its arm.
    pub arm: &'a str,
    /// Its seed.
    pub seed: u64,
    /// Floating-point operations of the runs behind it.
    pub work_behind: f64,
}

/// Who listens to a study and to its runs.
pub trait StudyWatch: Watch {
    /// A run begins or goes on.
    fn begins(&mut self, position: Position<'_>);

    /// The run has ended.
    fn ended(&mut self, result: &RunResult);
}

/// The folder of a run: by the study's folder, its arm's and its seed.
pub fn run_folder(out: &Path, arm: &str, seed: u64) -> PathBuf {
    out.join(arm).join(format!("seed-{seed}"))
}

impl Study {
    /// The runs of this study in the folder `out`, which need not exist.
    ///
    /// # Errors
    /// A folder that cannot be made or is not this study's; a run that was begun with other settings; files of a run that
    /// cannot be read.
    pub fn plan(&self, out: &Path) -> Result<Plan<'_>, TrainError> {
        self.require_own(out)?;
        require_writable(out)?;
        // By seed first: a study that is stopped has compared all arms on the seeds that it has done.
        let order = (0..self.seeds.len()).flat_map(|seed| self.arms.iter().map(move |arm| (arm, &arm.runs[seed])));
        let runs = order.map(|(arm, settings)| PlannedRun::new(arm, settings, out)).collect::<Result<_, _>>()?;
        Ok(Plan { study: self, out: out.to_owned(), runs })
    }

    /// Checks that a folder that holds something holds a report, or an arm of this study.
    fn require_own(&self, out: &Path) -> Result<(), CheckpointError> {
        if !out.is_dir() {
            return Ok(());
        }
        let entries = std::fs::read_dir(out).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let entries = entries.map_err(CheckpointError::io("list", out))?;
        let names: Vec<_> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let own = |name: &String| name == REPORT_FILE || self.arms.iter().any(|arm| arm.folder == *name);
        match names.first().filter(|_| !names.iter().any(own)) {
            None => Ok(()),
            Some(name) => Err(CheckpointError::NotAStudy { path: out.to_owned(), holds: excerpt(name) }),
        }
    }
}

impl<'a> PlannedRun<'a> {
    fn new(arm: &'a Arm, settings: &'a Settings, out: &Path) -> Result<Self, TrainError> {
        let folder = run_folder(out, &arm.folder, settings.train.seed);
        let run_file = folder.join(RUN_FILE);
        let begun = run_file.is_file();
        let mut result = None;
        if begun {
            let wanted = settings.entries()?;
            let stored = Settings::from_run_file(&run_file)?.entries()?;
            let mut keys: Vec<_> = wanted.keys().chain(stored.keys()).collect();
            // Defaults that follow from the number of steps differ with it, and are not what was changed.
            keys.sort_by_key(|key| (key.as_str() != "train.steps", *key));
            if let Some(key) = keys.into_iter().find(|&key| wanted.get(key) != stored.get(key)) {
                let value = |entries: &std::collections::BTreeMap<String, String>| {
                    entries.get(key).cloned().unwrap_or_else(|| "none".to_owned())
                };
                let (key, expected, got) = (key.clone(), value(&wanted), value(&stored));
                return Err(TrainError::StudyChanged { path: folder, key, expected, got });
            }
            result = RunResult::read(&folder)?;
        }
        Ok(Self { arm, settings, folder, begun, result, work: 0.0 })
    }

    fn fault(&self) -> impl Fn(TrainError) -> TrainError + use<> {
        let (arm, seed) = (self.arm.name.clone(), self.settings.train.seed);
        move |source| TrainError::StudyRun { arm: arm.clone(), seed, source: Box::new(source) }
    }

    /// Checks model, data and memory, and counts the work; returns the tokens that the run is evaluated on.
    fn set_up(&mut self, compute: &Compute) -> Result<Vec<u32>, TrainError> {
        let setup = Setup::new(self.settings, compute)?;
        compute.fits(&setup.program.schedule)?;
        let Some(windows) = &setup.validation else {
            return Err(TrainError::Setting {
                name: "data.valid".to_owned(),
                expected: "something to compare the arms on".to_owned(),
                got: "none".to_owned(),
                origin: "token shards hold nothing out by themselves".to_owned(),
            });
        };
        if self.result.is_none() {
            self.work = setup.plan(self.settings).flops_per_step as f64 * self.settings.train.steps as f64;
        }
        tokens_of(windows)
    }

    /// Trains and measures; none if the watch stopped it.
    async fn run(&self, compute: &Compute, watch: &mut dyn StudyWatch) -> Result<Option<RunResult>, TrainError> {
        let destination = match self.begun {
            true => Destination::Resume(RunFolder::open(&self.folder)?),
            false => Destination::New(self.folder.clone()),
        };
        let reason = match pretrain(self.settings, destination, compute, watch).await {
            Ok(summary) if !summary.finished => return Ok(None),
            Err(TrainError::Data(DataError::Stopped)) => return Ok(None),
            Ok(_) => None,
            Err(error) => Some(divergence(&error).ok_or(error)?),
        };
        let folder = RunFolder::open(&self.folder)?;
        let result = match reason {
            None => RunResult::measure(self.settings, &folder, compute).await?,
            Some(reason) => RunResult::diverged(reason, self.settings, &folder, compute)?,
        };
        result.write(&folder)?;
        // Read back, so that the report is the same whether the run has ended now or earlier.
        RunResult::read(&self.folder)
    }
}

/// The tokens of the windows that a run is evaluated on.
fn tokens_of(windows: &Windows) -> Result<Vec<u32>, TrainError> {
    let time = windows.seq_len();
    let mut all = Vec::new();
    let (mut tokens, mut targets) = (vec![0; time], vec![0; time]);
    for window in fixed_set(windows) {
        windows.fill(window, &mut tokens, &mut targets)?;
        all.extend(tokens.first().into_iter().chain(&targets));
    }
    Ok(all)
}

impl Plan<'_> {
    /// The runs, seed by seed.
    pub fn runs(&self) -> &[PlannedRun<'_>] {
        &self.runs
    }

    /// Runs that have ended already.
    pub fn ended(&self) -> usize {
        self.runs.iter().filter(|run| run.result.is_some()).count()
    }

    /// Checks all that is left to do, and that the arms are evaluated on the same tokens: of others, however alike the
    /// text is, a loss per token says something else.
    fn set_up(&mut self, compute: &Compute) -> Result<(), TrainError> {
        for of_seed in self.runs.chunks_mut(self.study.arms.len()) {
            let [first, others @ ..] = of_seed else { continue };
            if first.result.is_some() && others.iter().all(|run| run.result.is_some()) {
                continue;
            }
            let tokens = first.set_up(compute).map_err(first.fault())?;
            for run in others.iter_mut().filter(|run| run.result.is_none()) {
                if run.set_up(compute).map_err(run.fault())? != tokens {
                    return Err(other_tokens(first.arm, run.arm)?);
                }
            }
        }
        Ok(())
    }

    /// Does whatever is left to do, after a check of all of it; then the report is written into the study's folder.
    /// None if `watch` stopped it: planned and run again, it goes on from there.
    ///
    /// # Errors
    /// Whatever is wrong with a run, with its arm and seed; a device that is lost. What is done stays.
    pub async fn run(mut self, compute: &Compute, watch: &mut dyn StudyWatch) -> Result<Option<Report>, TrainError> {
        self.set_up(compute)?;
        let all = self.runs.len();
        for i in 0..all {
            if self.runs[i].result.is_some() {
                continue;
            }
            if watch.stop() {
                return Ok(None);
            }
            let work_behind = self.runs[i + 1..].iter().map(|run| run.work).sum();
            let run = &mut self.runs[i];
            let (arm, seed) = (run.arm.name.as_str(), run.settings.train.seed);
            watch.begins(Position { run: i + 1, runs: all, arm, seed, work_behind });
            run.result = run.run(compute, watch).await.map_err(run.fault())?;
            match &run.result {
                Some(result) => watch.ended(result),
                None => return Ok(None),
            }
        }
        let results = |arm: &Arm| -> Vec<RunResult> {
            let of_arm = self.runs.iter().filter(|run| run.arm.folder == arm.folder);
            of_arm.filter_map(|run| run.result.clone()).collect()
        };
        let report = Report::new(self.study, &self.study.arms.iter().map(results).collect::<Vec<_>>())?;
        report.write(&self.out)?;
        Ok(Some(report))
    }
}
