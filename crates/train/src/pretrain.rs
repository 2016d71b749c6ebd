//! The run: steps, evaluations, checkpoints and metrics in a run folder, from the beginning or from where it stopped.

use std::{ops::ControlFlow, path::PathBuf, time::Duration};

use evenkeel_data::DataEvent;
use evenkeel_schedule::Schedule;

use crate::{
    Compute, End, Executor, Generation, Plan, Program, Reader, Sampling, Setup, StepRecord, TrainError, Trainer,
    Weights,
    checkpoint::{self, trainer_state::Best},
    evaluate, fixed_set, generate,
    learning_rate::learning_rate,
    metrics::{EvaluationRow, StepRow},
    profile::{Profile, StepProfile},
    run_folder::{MetricsFile, RunFolder},
    settings::Settings,
    state::{Identity, Point, kind, restore, save},
};

/// Updates in a row that a run may skip because their gradient norm is not finite, a loss scale above 1 not being why.
pub const MOST_SKIPPED: u64 = 10;
/// How the sample at the end of a text run is drawn.
const SAMPLE_TEMPERATURE: f64 = 0.7;

/// Where a run lives.
#[derive(Debug)]
pub enum Destination {
    /// A folder to make.
    New(PathBuf),
    /// A folder to go on in.
    Resume(RunFolder),
}

/// What a run tells while it goes.
#[derive(Debug)]
pub enum Event<'a> {
    /// Data are read and prepared.
    Data(DataEvent<'a>),
    /// Something to know, in one line.
    Notice(&'a str),
    /// Kernels compiled, of how many.
    Kernels(usize, usize),
    /// Everything is in place.
    Started {
        /// Run folder.
        folder: &'a std::path::Path,
        /// Steps done before.
        done: u64,
        /// Steps in all.
        steps: u64,
        /// What the run takes.
        plan: &'a Plan,
    },
    /// A step is done.
    Step(&'a StepRow),
    /// An evaluation is done.
    Evaluated(&'a EvaluationRow),
    /// A checkpoint is complete.
    Checkpoint(&'a std::path::Path),
    /// Text of the sample.
    Sample(&'a str),
    /// A step for which [`Watch::profiles`] asked is done: the schedule, all such steps so far, and their trace.
    Profiled(&'a Schedule, &'a Profile, &'a std::path::Path),
}

/// Who listens to a run. [`Watch::stop`] is asked after every step.
pub trait Watch: Send {
    /// Something happened.
    fn event(&mut self, event: Event<'_>);

    /// Whether to stop here, with a checkpoint, as if the run were to go on another day.
    fn stop(&mut self) -> bool {
        false
    }

    /// Whether to note when each kernel of this step runs, which makes the step slower.
    fn profiles(&mut self, step: u64) -> bool {
        let _ = step;
        false
    }

    /// Whether a run that has finished is to write a sample.
    fn sample(&self) -> bool {
        true
    }
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
        Destination::Resume(folder) => load_newest(folder, &setup, compute, watch)?,
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
            restore(&setup.program, &mut executor, optimizer)?;
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
    folder.cut_metrics_after(done)?;
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
    run.sample().await?;
    Ok(run.summary)
}

/// Sets a run up, with the tokenizer that it began with.
fn set_up(
    settings: &Settings,
    destination: &Destination,
    compute: &Compute,
    watch: &mut dyn Watch,
) -> Result<Setup, TrainError> {
    let known = match destination {
        Destination::New(_) => None,
        Destination::Resume(folder) => evenkeel_data::Tokenizer::of_folder(folder.path())?,
    };
    Setup::with_data(&settings_here(settings, destination)?, compute, known, &mut |event| {
        watch.event(Event::Data(event));
        if watch.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

/// The settings to set up with: a run that goes on has its model in its checkpoints, whatever became of the folder that
/// it started from.
fn settings_here(settings: &Settings, destination: &Destination) -> Result<Settings, TrainError> {
    let mut here = settings.clone();
    if let (Some(from), Destination::Resume(folder)) = (&mut here.model.from, destination)
        && let Some((_, newest)) = checkpoint::newest(folder)?
    {
        *from = newest;
    }
    Ok(here)
}

/// The settings with the checkpoint that the weights come from: which one is a run's best may change.
fn pinned(settings: &Settings, weights: &Weights) -> Settings {
    let mut pinned = settings.clone();
    if let Weights::Folder(folder) = weights {
        pinned.model.from = Some(folder.clone());
    }
    pinned
}

fn load_newest(
    folder: &RunFolder,
    setup: &Setup,
    compute: &Compute,
    watch: &mut dyn Watch,
) -> Result<Option<checkpoint::LoadedCheckpoint>, TrainError> {
    let Some((_, path)) = checkpoint::newest(folder)? else { return Ok(None) };
    let stored = checkpoint::load(&path)?;
    if stored.config != setup.config {
        return Err(TrainError::Resume { path, what: "model", expected: "the run's", got: "another" });
    }
    let tokenizer = setup.tokenizer.as_ref();
    if evenkeel_data::Tokenizer::of_folder(&path)?.as_ref() != tokenizer || stored.trainer.tokenizer != kind(tokenizer)
    {
        return Err(TrainError::Resume { path, what: "tokenizer", expected: "the run's", got: "another" });
    }
    let name = compute.name();
    if (&stored.trainer.adapter, &stored.trainer.driver) != (&name.adapter, &name.driver) {
        watch.event(Event::Notice(&format!(
            "the run was computed on {} ({}) so far and goes on on {} ({}): its bits will differ from an unbroken run's",
            stored.trainer.adapter, stored.trainer.driver, name.adapter, name.driver,
        )));
    }
    Ok(Some(stored))
}

impl Run<'_> {
    async fn steps(&mut self, done: u64) -> Result<(), TrainError> {
        let train = &self.settings.train;
        let due = |every: u64, step: u64| step == train.steps || (every > 0 && step.is_multiple_of(every));
        let mut warned = false;
        // Skipped updates in a row, and whether a checkpoint waits for a step that is applied.
        let (mut skipped, mut owed) = (0, false);
        for step in done + 1..=train.steps {
            self.begin(step).await?;
            // What reads the weights has the device to itself.
            let alone = owed || due(train.eval_every, step) || due(train.checkpoint_every, step);
            if !alone {
                self.begin(step + 1).await?;
            }
            let record = self.finish(step).await?;
            let good = record.applied || record.only_scaled_too_far();
            skipped = if good { 0 } else { skipped + 1 };
            if skipped == MOST_SKIPPED || (skipped > 0 && step == train.steps) {
                return Err(TrainError::NonFiniteNorm { step, skipped, hint: self.resume_hint() });
            }
            if record.wrapped && !warned {
                self.watch.event(Event::Notice("the data is at its end and begins again"));
                warned = true;
            }
            let loss = if due(train.eval_every, step) { self.evaluate(step).await? } else { None };
            let stop = self.watch.stop() && step < train.steps;
            if stop {
                self.trainer.abandon(&mut self.executor).await?;
            }
            owed |= stop || due(train.checkpoint_every, step);
            let best = loss.filter(|&loss| good && self.is_best(loss, owed));
            if let Some(valid_loss) = best {
                self.summary.best = Some(Best { step, valid_loss });
            }
            if (owed || best.is_some()) && good {
                self.save(&record, !owed).await?;
                owed = false;
            }
            if stop {
                self.watch.event(Event::Notice(&format!("stopped; {}", self.resume_hint())));
                return Ok(());
            }
        }
        self.summary.finished = true;
        Ok(())
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
                hint: self.resume_hint(),
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
        let hint = self.resume_hint();
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

    async fn sample(&mut self) -> Result<(), TrainError> {
        let wanted = self.watch.sample() && self.program.generation.is_some();
        let Some(tokenizer) = self.tokenizer.as_ref().filter(|_| wanted) else { return Ok(()) };
        if !self.summary.finished || self.summary.losses.is_none() {
            return Ok(());
        }
        let seed = self.settings.train.seed;
        let options = Generation {
            sampling: Sampling { temperature: SAMPLE_TEMPERATURE, seed, ..Sampling::default() },
            max_new_tokens: usize::MAX, // until the context is full
            end_token: None,
            known_tokens: tokenizer.vocab_size(),
        };
        let prompts = [vec![tokenizer.start()]];
        let mut reader = SampleReader { watch: &mut *self.watch, decoder: Some(tokenizer.decoder()) };
        generate(&self.program, &mut self.executor, &prompts, &options, &mut reader).await?;
        Ok(())
    }
}

/// Hands a sample on piece by piece.
struct SampleReader<'a> {
    watch: &'a mut dyn Watch,
    decoder: Option<evenkeel_data::Decoder>,
}

impl SampleReader<'_> {
    fn show(&mut self, text: Option<String>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.watch.event(Event::Sample(&text));
        }
    }
}

impl Reader for SampleReader<'_> {
    fn token(&mut self, _: usize, token: u32) -> bool {
        let text = self.decoder.as_mut().map(|decoder| decoder.push(token));
        self.show(text);
        true
    }

    fn ended(&mut self, _: usize, _: End) {
        let text = self.decoder.take().map(evenkeel_data::Decoder::finish);
        self.show(text);
    }

    fn interrupted(&mut self) -> bool {
        self.watch.stop()
    }
}
