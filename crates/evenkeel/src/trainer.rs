//! Training as a part of another program.

use std::{fmt, ops::ControlFlow, path::PathBuf, time::Duration};

use evenkeel_gpu::now;
use evenkeel_train::{
    Compute, Executor, Identity, MOST_SKIPPED, Point, Program, Setup, StepRecord, StepRow, TrainError,
    checkpoint::{self, trainer_state::Best},
    damaged, evaluate, fixed_set,
    learning_rate::learning_rate,
    restore,
    run_folder::RunFolder,
    save,
    settings::Settings,
};

/// Who hears of every step.
type Listener = Box<dyn FnMut(&StepRow) + Send>;

/// How to go on after an error.
const HINT: &str = "a new trainer goes on from the last checkpoint";

/// A run that its host drives, on a device of its own or on the host's: a little within every frame
/// ([`Trainer::step_within`]), or step by step ([`Trainer::step`]). The bits are those of `evenkeel pretrain` with the
/// same settings on the same adapter, in whatever pieces it is done.
///
/// It has no state outside of itself, prints nothing and writes no file but what [`Trainer::save`] is asked for. On a
/// host's device it leaves the handlers for lost devices and uncaptured errors alone: its calls stand in error scopes of
/// their own. After an error it is of no use any more; the host makes a new one from the last checkpoint, on a new
/// device if the old one is lost.
///
/// ```
/// use std::time::Duration;
/// use evenkeel::{Compute, Settings, Trainer};
///
/// let settings = Settings::from_toml(
///     "[model]
///      hidden_size = 16
///      intermediate_size = 24
///      num_hidden_layers = 1
///      num_attention_heads = 2
///      num_key_value_heads = 1
///      vocab_size = 256
///      max_position_embeddings = 16
///      [train]
///      steps = 3
///      batch_size = 2
///      seq_len = 16",
/// )?;
/// let mut trainer = pollster::block_on(Trainer::new(&settings, &Compute::Cpu))?;
/// trainer.on_step(|row| assert!(row.loss.is_finite()));
/// while !trainer.is_finished() {
///     // Draw a frame here.
///     trainer.step_within(Duration::from_millis(4))?;
/// }
/// assert_eq!(trainer.steps_done(), 3);
/// # Ok::<(), evenkeel::TrainError>(())
/// ```
pub struct Trainer {
    settings: Settings,
    identity: Identity,
    program: Program,
    executor: Executor,
    trainer: evenkeel_train::Trainer,
    validation: Option<evenkeel_data::Windows>,
    done: u64,
    applied_steps: u64,
    /// What `evenkeel pretrain` knew of the run's best checkpoint.
    best: Option<Best>,
    /// Skipped updates in a row.
    skipped: u64,
    failed: bool,
    on_step: Option<Listener>,
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer")
            .field("executor", &self.executor)
            .field("done", &self.done)
            .field("steps", &self.settings.train.steps)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// Places a new model on `compute`: when this is ready all memory is allocated and all kernels are compiled.
    ///
    /// # Errors
    /// Whatever is wrong with settings, model or data; memory or limits that do not suffice, a kernel that the driver
    /// refuses.
    pub async fn new(settings: &Settings, compute: &Compute) -> Result<Self, TrainError> {
        Self::place(settings, compute, None).await
    }

    /// Goes on with the newest checkpoint in a run folder, be it of [`Trainer::save`] or of `evenkeel pretrain`; from the
    /// beginning where it has none. The settings are those of its `run.toml`.
    ///
    /// # Errors
    /// As [`Trainer::new`]; a run.toml that was emptied or cut; a checkpoint that cannot be read or is another run's.
    pub async fn resume(folder: &RunFolder, compute: &Compute) -> Result<Self, TrainError> {
        let settings = Settings::of_run(&folder.run_file())?;
        let load = |(step, path): (u64, PathBuf)| match checkpoint::load(&path) {
            Ok(stored) => Ok((path, stored)),
            Err(error) => Err(damaged(folder, step, error.into())),
        };
        let stored = checkpoint::newest(folder)?.map(load).transpose()?;
        Self::place(&settings, compute, stored).await
    }

    async fn place(
        settings: &Settings,
        compute: &Compute,
        stored: Option<(PathBuf, checkpoint::LoadedCheckpoint)>,
    ) -> Result<Self, TrainError> {
        let known = stored.as_ref().map(|(path, _)| evenkeel_data::Tokenizer::of_folder(path)).transpose()?.flatten();
        // A run that goes on has its model in its checkpoints, whatever became of the folder that it started from.
        let mut here = settings.clone();
        if let (Some(from), Some((path, _))) = (&mut here.model.from, &stored) {
            from.clone_from(path);
        }
        let setup = Setup::with_data(&here, compute, known, &mut |_| ControlFlow::Continue(()))?;
        compute.fits(&setup.program.schedule)?;
        let identity = Identity::of(&setup, settings, compute);
        let (parameters, rest) = match stored {
            Some((path, stored)) => {
                identity.require_same_run(&path, &stored)?;
                (stored.parameters, Some((stored.optimizer, stored.trainer)))
            }
            None => (setup.weights.load(&setup.config)?, None),
        };
        let mut executor = setup.program.prepare(compute, &parameters, &mut |_, _| ()).await?;
        let (mut done, mut applied_steps, mut best) = (0, 0, None);
        if let Some((optimizer, state)) = rest {
            restore(&setup.program, &mut executor, optimizer)?;
            (done, applied_steps, best) = (state.step, state.applied_steps, state.best);
        }
        Ok(Self {
            settings: settings.clone(),
            identity,
            trainer: evenkeel_train::Trainer::new(
                &setup.program,
                setup.batches,
                settings.train.grad_accumulation as u32,
            )?,
            program: setup.program,
            executor,
            validation: setup.validation,
            done,
            applied_steps,
            best,
            skipped: 0,
            failed: false,
            on_step: None,
        })
    }

    /// Calls `hear` with the metrics of every step from now on, as its record comes in.
    pub fn on_step(&mut self, hear: impl FnMut(&StepRow) + Send + 'static) {
        self.on_step = Some(Box::new(hear));
    }

    /// The settings, every default in place.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Steps whose record came in.
    pub fn steps_done(&self) -> u64 {
        self.done
    }

    /// Whether all steps of the settings are done.
    pub fn is_finished(&self) -> bool {
        self.done >= self.settings.train.steps
    }

    /// Submits what keeps the device busy for about `budget`, work of the calls before included, and takes the
    /// records that have come in meanwhile. Never waits for the device: a host calls it once a frame. How much fits into the
    /// budget is estimated, and corrected by what submits are seen to take. What computes in the caller's time, the CPU
    /// executor and software drivers, computes for about `budget`: at least one micro-batch or update, or one dispatch.
    ///
    /// # Errors
    /// A device that is lost, data that cannot be read; a loss that is not finite, of which
    /// [`Trainer::first_non_finite`] says more; updates that stay without a finite norm; any call after an error.
    pub fn step_within(&mut self, budget: Duration) -> Result<(), TrainError> {
        self.refuse_after_error()?;
        let result = self.advance(budget);
        self.failed = result.is_err();
        result
    }

    fn advance(&mut self, budget: Duration) -> Result<(), TrainError> {
        let start = now();
        while !self.is_finished() {
            self.begin();
            self.trainer.advance(&mut self.executor, budget.saturating_sub(now() - start))?;
            let Some(record) = self.trainer.take()? else { break };
            self.hear(&record)?;
            // Where nothing overlaps, the steps would follow each other without end.
            if now() - start >= budget {
                break;
            }
        }
        Ok(())
    }

    /// Finishes one step, and waits for it.
    ///
    /// # Errors
    /// As [`Trainer::step_within`]; a device that hangs, no steps left.
    pub async fn step(&mut self) -> Result<StepRow, TrainError> {
        self.refuse_after_error()?;
        let result = self.finish_step().await;
        self.failed = result.is_err();
        result
    }

    async fn finish_step(&mut self) -> Result<StepRow, TrainError> {
        self.begin();
        let record = self.trainer.record(&mut self.executor).await?;
        self.hear(&record)
    }

    /// Begins the next step, and the one behind it, if they have not begun.
    fn begin(&mut self) {
        let settings = &self.settings;
        let last = settings.train.steps.min(self.done + 2);
        for step in self.done + 1..=last {
            if self.trainer.begun().is_none_or(|begun| begun < step) {
                let lr = learning_rate(&settings.schedule, settings.optimizer.lr, settings.train.steps, step);
                self.trainer.begin(step, lr, settings.measures(step));
            }
        }
    }

    fn hear(&mut self, record: &StepRecord) -> Result<StepRow, TrainError> {
        let hint = || HINT.to_owned();
        let step = record.step;
        if !record.loss.is_finite() {
            let first = "not looked for".to_owned();
            return Err(TrainError::NonFinite { step, loss: record.loss, first, hint: hint() });
        }
        let good = record.applied || record.only_scaled_too_far();
        self.skipped = if good { 0 } else { self.skipped + 1 };
        if self.skipped == MOST_SKIPPED {
            return Err(TrainError::NonFiniteNorm { step, skipped: self.skipped, hint: hint() });
        }
        (self.done, self.applied_steps) = (step, record.applied_steps);
        let settings = &self.settings;
        let lr = learning_rate(&settings.schedule, settings.optimizer.lr, settings.train.steps, step);
        let row = StepRow::of(record, lr, self.trainer.tokens_per_step());
        if let Some(hear) = &mut self.on_step {
            hear(&row);
        }
        Ok(row)
    }

    /// The first tensor that is not finite in the step after those that are done, and the kernel that wrote it; the step is
    /// computed again, kernel by kernel. For after an error that says of a loss that it is not finite.
    ///
    /// # Errors
    /// A device that is lost or hangs.
    pub async fn first_non_finite(&mut self) -> Result<Option<String>, TrainError> {
        self.trainer.first_non_finite(&mut self.executor, self.done + 1).await
    }

    /// Mean loss of the validation set that `evenkeel pretrain` evaluates on, in nats; none without validation data. A step
    /// that is half done is finished first if its update has begun, otherwise it is done again later.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub async fn evaluate(&mut self) -> Result<Option<f64>, TrainError> {
        self.settle().await?;
        let Some(windows) = &self.validation else { return Ok(None) };
        let chosen = fixed_set(windows);
        let evaluation = evaluate(&self.program, &mut self.executor, windows, &chosen, &mut |_, _| ()).await?;
        Ok(Some(evaluation.loss))
    }

    /// The values of a parameter, by its name in a checkpoint. A step that is half done is treated as by
    /// [`Trainer::evaluate`].
    ///
    /// # Errors
    /// As [`Trainer::step`]; a name that the model does not have.
    pub async fn parameter(&mut self, name: &str) -> Result<Vec<f32>, TrainError> {
        self.settle().await?;
        self.executor.read(self.program.schedule.find(name)?).await
    }

    /// Writes a checkpoint into a run folder, complete or not at all, and gives its path; `evenkeel generate`, `inspect` and
    /// `pretrain --resume` take it as their own. A step that is half done is treated as by [`Trainer::evaluate`].
    ///
    /// ```no_run
    /// # use evenkeel::{Compute, RunFolder, Settings, Trainer};
    /// # async fn example(mut trainer: Trainer, compute: Compute) -> Result<(), evenkeel::TrainError> {
    /// let folder = RunFolder::create("runs/mine".as_ref())?;
    /// folder.write_run_file(&trainer.settings().to_toml()?)?;
    /// trainer.save(&folder).await?;
    /// let again = Trainer::resume(&folder, &compute).await?;
    /// assert_eq!(again.steps_done(), trainer.steps_done());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Trainer::step`]; parameters that are not finite, what the system refuses, a checkpoint of that step that is
    /// there already.
    pub async fn save(&mut self, folder: &RunFolder) -> Result<PathBuf, TrainError> {
        self.settle().await?;
        let (step, applied_steps, best) = (self.done, self.applied_steps, self.best);
        let point = Point { step, applied_steps, only_as_best: false, best };
        save(&self.program, &mut self.executor, folder, &self.identity, &point, HINT).await
    }

    /// Brings the device to the end of the last step whose update has begun.
    async fn settle(&mut self) -> Result<(), TrainError> {
        self.refuse_after_error()?;
        while self.trainer.committed() {
            self.step().await?;
        }
        self.trainer.abandon(&mut self.executor).await
    }

    fn refuse_after_error(&self) -> Result<(), TrainError> {
        if self.failed { Err(TrainError::Failed) } else { Ok(()) }
    }
}
