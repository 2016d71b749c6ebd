//! The run: steps, evaluations, samples, checkpoints and metrics in a run folder, from the beginning or from where it
//! stopped.

mod sample;
mod start;
mod watch;

use std::{path::PathBuf, time::Duration};

use start::{load_newest, pinned, set_up};
pub use watch::{Event, Watch};

use crate::{
    Compute, Executor, Program, StepRecord, TrainError, Trainer,
    checkpoint::{self, trainer_state::Best},
    evaluate, fixed_set,
    learning_rate::learning_rate,
    metrics::{EvaluationRow, StepRow},
    profile::{Profile, StepProfile},
    run_folder::{MetricsFile, RunFolder, SamplesFile},
    settings::Settings,
    state::{Identity, Point, damaged, restore, save},
};

/// Updates in a row that a run may skip because their gradient norm is not finite, a loss scale above 1 not being why.
pub const MOST_SKIPPED: u64 = 10;

/// Where a run lives.
#[derive(Debug)]
pub enum Destination {
    /// A folder to make.
    New(PathBuf),
    /// A folder to go on in.
    Resume(RunFolder),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Its folder.
    pub folder: PathBuf,
    /// Steps done in all.
    pub step: u64,
    /// Whether all steps are done.
    pub finished: bool,
    /// First and last loss of this process's steps.
    pub losses: Option<(f64, f64)>,
    /// Last evaluation.
    pub valid_loss: Option<f64>,
    /// The best evaluation of all, whose checkpoint was kept.
    pub best: Option<Best>,
    /// Time spent in steps.
    pub step_time: Duration,
}

struct Run<'a> {
    settings: &'a Settings,
    tokenizer: Option<evenkeel_data::Tokenizer>,
    program: Program,
    identity: Identity,
    folder: RunFolder,
    metrics: MetricsFile,
    /// There where the run writes samples.
    samples: Option<SamplesFile>,
    trainer: Trainer,
    executor: Executor,
    validation: Option<evenkeel_data::Windows>,
    watch: &'a mut dyn Watch,
    summary: Summary,
    saved: u64,
    profile: Profile,
    /// The step that was last asked whether it is to be profiled, and the answer.
    profiled: Option<(u64, bool)>,
}

/// Trains.
///
/// # Errors
/// Whatever is wrong with settings, model, data, folder or device; a loss that is not finite. Complete checkpoints
/// stay.
pub async fn pretrain(
    settings: &Settings,
    destination: Destination,
    compute: &Compute,
    watch: &mut dyn Watch,
) -> Result<Summary, TrainError> {
    let setup = set_up(settings, &destination, compute, watch)?;
    // Before weights are drawn: they alone may be too many.
    compute.fits(&setup.program.schedule)?;
    let plan = setup.plan(settings);
    let identity = Identity::of(&setup, settings, compute);
    let stored = match &destination {
        Destination::New(_) => None,
        Destination::Resume(folder) => load_newest(folder, &identity, compute, watch)?,
    };
    let (parameters, rest) = match stored {
        Some(stored) => (stored.parameters, Some((stored.optimizer, stored.trainer))),
        None => (setup.weights.load(&setup.config)?, None),
    };
    let accumulation = settings.train.grad_accumulation as u32;
    let trainer = Trainer::new(&setup.program, setup.batches, accumulation)?;
    let mut executor = {
        let mut kernels = |done, all| watch.event(Event::Kernels(done, all));
        setup.program.prepare(compute, &parameters, &mut kernels).await?
    };
    drop(parameters);
    let (done, best) = match rest {
        Some((optimizer, state)) => {
            let restored = restore(&setup.program, &mut executor, optimizer);
            restored.map_err(|error| match &destination {
                Destination::Resume(folder) => damaged(folder, state.step, error),
                Destination::New(_) => error,
            })?;
            (state.step, state.best)
        }
        None => (0, None),
    };
    let folder = match destination {
        Destination::New(path) => {
            let folder = RunFolder::create(&path)?;
            folder.write_run_file(&pinned(settings, &setup.weights).to_toml()?)?;
            folder
        }
        Destination::Resume(folder) => folder,
    };
    folder.write_tokenizer(setup.tokenizer.as_ref())?;
    let steps = settings.train.steps;
    watch.event(Event::Started { folder: folder.path(), done, steps, plan: &plan });
    let summary = Summary {
        folder: folder.path().to_owned(),
        step: done,
        finished: done >= steps,
        losses: None,
        valid_loss: None,
        best,
        step_time: Duration::ZERO,
    };
    let mut run = Run {
        settings,
        samples: (setup.program.generation.is_some() && watch.samples()).then(|| folder.samples(done)).transpose()?,
        tokenizer: setup.tokenizer,
        identity,
        metrics: folder.metrics(done)?,
        folder,
        trainer,
        executor,
        validation: setup.validation,
        program: setup.program,
        watch,
        summary,
        saved: done,
        profile: Profile::default(),
        profiled: None,
    };
    run.steps(done).await?;
    run.tell_profile()?;
    Ok(run.summary)
}

impl Run<'_> {
    async fn steps(&mut self, done: u64) -> Result<(), TrainError> {
        let train = &self.settings.train;
        // One that a stop or a kill kept from being written.
        if self.sample(done).await? && done < train.steps {
            self.tell_stopped();
            return Ok(());
        }
        let mut warned = false;
        // Skipped updates in a row, and whether a checkpoint waits for a step that is applied.
        let (mut skipped, mut owed) = (0, false);
        for step in done.saturating_add(1)..=train.steps {
            self.begin(step).await?;
            // What reads the weights has the device to itself.
            let (evaluated, saved) = (self.is_due(train.eval_every, step), self.is_due(train.checkpoint_every, step));
            let alone = owed || evaluated || saved || self.sample_is_due(step);
            if !alone {
                self.begin(step + 1).await?;
            }
            let record = self.finish(step).await?;
            let good = record.applied || record.only_scaled_too_far();
            skipped = if good { 0 } else { skipped + 1 };
            if skipped == MOST_SKIPPED || (skipped > 0 && step == train.steps) {
                return Err(TrainError::NonFiniteNorm { step, skipped, hint: self.way_on() });
            }
            if record.wrapped && !warned {
                self.watch.event(Event::Notice("the data is at its end and begins again"));
                warned = true;
            }
            let loss = if evaluated { self.evaluate(step).await? } else { None };
            let stop = self.watch.stop() && step < train.steps;
            if stop {
                self.trainer.abandon(&mut self.executor).await?;
            }
            owed |= stop || saved;
            let best = loss.filter(|&loss| good && self.is_best(loss, owed));
            if let Some(valid_loss) = best {
                self.summary.best = Some(Best { step, valid_loss });
            }
            if (owed || best.is_some()) && good {
                self.save(&record, !owed).await?;
                owed = false;
            }
            if stop || self.stops_in_sample(&record, good).await? {
                self.tell_stopped();
                return Ok(());
            }
        }
        self.summary.finished = true;
        Ok(())
    }

    /// Writes the sample that is due after a step, and returns whether a stop ends the run there: then the run goes on
    /// from this step, so that it writes the sample once more.
    async fn stops_in_sample(&mut self, record: &StepRecord, good: bool) -> Result<bool, TrainError> {
        if !self.sample(record.step).await? || record.step == self.settings.train.steps {
            return Ok(false);
        }
        if good && self.saved != record.step {
            self.save(record, false).await?;
        }
        Ok(true)
    }

    /// Whether what is done every so many steps, and after the last, is done after `step`.
    fn is_due(&self, every: u64, step: u64) -> bool {
        step == self.settings.train.steps || (every > 0 && step > 0 && step.is_multiple_of(every))
    }

    /// Begins a step that has not begun. One that is profiled has the device to itself: it does not begin while
    /// another runs, and none begins while it runs.
    async fn begin(&mut self, step: u64) -> Result<(), TrainError> {
        let running = self.trainer.begun();
        if running == Some(step) {
            return Ok(());
        }
        let before = self.profiled.filter(|(asked, _)| *asked != step).is_some_and(|(_, profiled)| profiled);
        let profiled = match self.profiled {
            Some((asked, answer)) if asked == step => answer,
            _ if running.is_some() && before => return Ok(()),
            _ => self.watch.profiles(step),
        };
        self.profiled = Some((step, profiled));
        if profiled && running.is_some() {
            return Ok(());
        }
        if profiled {
            self.executor.record_times(true).await?;
        }
        let train = &self.settings.train;
        let lr = learning_rate(&self.settings.schedule, self.settings.optimizer.lr, train.steps, step);
        self.trainer.begin(step, lr, self.settings.measures(step));
        Ok(())
    }

    async fn finish(&mut self, step: u64) -> Result<StepRecord, TrainError> {
        let train = &self.settings.train;
        let lr = learning_rate(&self.settings.schedule, self.settings.optimizer.lr, train.steps, step);
        let record = self.trainer.record(&mut self.executor).await?;
        let StepRecord { time, host, .. } = record;
        let times = self.executor.take_times();
        if self.profiled == Some((step, true)) {
            self.executor.record_times(false).await?;
            self.profile.push(StepProfile { step, time, upload: host.batches, times });
            self.tell_profile()?;
        } else {
            self.profile.note(host);
        }
        self.summary.step_time += time;
        if !record.loss.is_finite() {
            let first = self.trainer.first_non_finite(&mut self.executor, step).await?;
            return Err(TrainError::NonFinite {
                step,
                loss: record.loss,
                first: first.unwrap_or_else(|| "no tensor of the replay".to_owned()),
                hint: self.way_on(),
            });
        }
        if !record.applied {
            let mut notice = format!("step {step}: the gradient norm is not finite, the update was skipped");
            if let Some(scale) = record.loss_scale {
                notice += &format!("; the loss scale falls from {scale} to {}", 0.5 * scale);
            }
            self.watch.event(Event::Notice(&notice));
        }
        let row = StepRow::of(&record, lr, self.trainer.tokens_per_step());
        self.metrics.append(&row)?;
        self.watch.event(Event::Step(&row));
        let first = self.summary.losses.map_or(row.loss, |(first, _)| first);
        self.summary.losses = Some((first, row.loss));
        self.summary.step = step;
        Ok(record)
    }

    fn tell_profile(&mut self) -> Result<(), TrainError> {
        if !self.profile.is_empty() {
            let trace = self.folder.write_trace(&self.profile.trace(&self.program.schedule))?;
            self.watch.event(Event::Profiled(&self.program.schedule, &self.profile, &trace));
        }
        Ok(())
    }

    /// Whether a validation loss is the lowest so far, in a run that keeps that checkpoint. One that is to have no
    /// checkpoints before its end has none for this either, but where one is `due` anyway.
    fn is_best(&self, loss: f64, due: bool) -> bool {
        let train = &self.settings.train;
        let lower = self.summary.best.is_none_or(|best| loss < best.valid_loss);
        train.keep_best && (due || train.checkpoint_every > 0) && loss.is_finite() && lower
    }

    async fn evaluate(&mut self, step: u64) -> Result<Option<f64>, TrainError> {
        let Some(windows) = &self.validation else { return Ok(None) };
        let chosen = fixed_set(windows);
        let evaluation = evaluate(&self.program, &mut self.executor, windows, &chosen, &mut |_, _| ()).await?;
        let bytes = self.tokenizer.as_ref().map(|tokenizer| windows.target_bytes(&chosen, tokenizer)).transpose()?;
        let valid_bpb = bytes.and_then(|bytes| evaluation.bits_per_byte(bytes));
        let loss = evaluation.loss;
        let row = EvaluationRow { step, valid_loss: loss, valid_bpb };
        self.metrics.append(&row)?;
        self.watch.event(Event::Evaluated(&row));
        self.summary.valid_loss = Some(loss);
        Ok(Some(loss))
    }

    /// Writes a checkpoint, and removes those that it takes the place of.
    async fn save(&mut self, record: &StepRecord, only_as_best: bool) -> Result<(), TrainError> {
        let (step, applied_steps) = (record.step, record.applied_steps);
        let point = Point { step, applied_steps, only_as_best, best: self.summary.best };
        let hint = self.way_on();
        let path = save(&self.program, &mut self.executor, &self.folder, &self.identity, &point, &hint).await?;
        self.saved = record.step;
        let best = self.summary.best.map(|best| best.step);
        checkpoint::prune(&self.folder, self.settings.train.keep_checkpoints, best)?;
        self.watch.event(Event::Checkpoint(&path));
        Ok(())
    }

    /// The command that goes on from the last checkpoint.
    fn resume_hint(&self) -> String {
        format!("evenkeel pretrain --resume {} goes on after step {}", self.folder.path().display(), self.saved)
    }

    /// How to go on after numbers that are not finite: without a checkpoint, the same steps would come to the same end.
    fn way_on(&self) -> String {
        match self.saved {
            0 => "nothing is saved yet; a new run with a lower optimizer.lr or init.std may stay finite".to_owned(),
            _ => self.resume_hint(),
        }
    }

    fn tell_stopped(&mut self) {
        let notice = format!("stopped; {}", self.resume_hint());
        self.watch.event(Event::Notice(&notice));
    }
}
