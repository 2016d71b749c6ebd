//! Runs a schedule: everything is allocated and bound at the start, then phases are recorded and submitted in parts
//! that are short enough for watchdogs and frames, few of them in flight.

use std::{
    collections::VecDeque,
    fmt,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use evenkeel_schedule::{Phase, Schedule, StepTime, TensorId};

use crate::{
    Gpu, GpuError,
    pace::{Pace, SUBMIT_SECONDS},
    plan::Plan,
    platform::{self, Outcome},
    readback::{Copy, Readback, StagingRing},
    timing::Timing,
    wait::Signal,
};

/// Submits that the device may have before it: one that runs, one behind it, one being recorded.
const IN_FLIGHT: usize = 3;

/// Bytes of host data that wgpu may hold back for the next submit; more are submitted at once.
const WRITTEN_BYTES: u64 = 64 << 20;

/// Whether [`GpuExecutor::advance`] is to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Parts of the phase are not submitted yet.
    More,
    /// All of the phase is submitted; the device may still be at it.
    Done,
}

/// Runs a schedule on a device. Memory, pipelines and bindings are made once; running allocates nothing that stays.
///
/// Writes, phases and reads take effect in the order of the calls.
pub struct GpuExecutor {
    gpu: Arc<Gpu>,
    schedule: Arc<Schedule>,
    plan: Plan,
    pace: Pace,
    /// Dispatches of the current phase that are not submitted.
    rest: Range<usize>,
    /// Copies to submit behind them.
    copies: Vec<Copy>,
    flights: VecDeque<Flight>,
    /// When the last submit ended that is known to have.
    landed: Duration,
    /// When it was last looked whether submits have ended.
    looked: Duration,
    /// Error scopes that have not resolved yet; natively they do so at once.
    outcomes: Vec<Outcome>,
    written: u64,
    submitting: Duration,
    ring: StagingRing,
    timing: Option<Box<Timing>>,
}

/// A submit that the device is at.
struct Flight {
    ended: Signal<Duration>,
    submitted: Duration,
    estimated: f64,
}

impl fmt::Debug for GpuExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GpuExecutor")
            .field("adapter", &self.gpu.summary)
            .field("dispatches", &self.plan.dispatches.len())
            .field("rest", &self.rest)
            .field("in_flight", &self.flights.len())
            .finish_non_exhaustive()
    }
}

impl GpuExecutor {
    /// Allocates the planned memory, zeroed, compiles the kernels and binds everything; `progress` hears of (kernels
    /// ready, kernels).
    ///
    /// # Errors
    /// Memory or limits that do not suffice, a kernel that the driver refuses.
    pub async fn new(
        gpu: Arc<Gpu>,
        schedule: Arc<Schedule>,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self, GpuError> {
        let plan = Plan::new(&gpu, &schedule, progress).await?;
        Ok(Self {
            gpu,
            schedule,
            plan,
            pace: Pace::new(),
            rest: 0..0,
            copies: Vec::new(),
            flights: VecDeque::new(),
            landed: Duration::ZERO,
            looked: Duration::ZERO,
            outcomes: Vec::new(),
            written: 0,
            submitting: Duration::ZERO,
            ring: StagingRing::default(),
            timing: None,
        })
    }

    /// What it runs.
    pub fn schedule(&self) -> &Arc<Schedule> {
        &self.schedule
    }

    /// What it runs on.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Dispatches of a phase; at least one a step.
    pub fn dispatches(&self, phase: Phase) -> usize {
        self.dispatches_of(self.schedule.phase(phase)).len()
    }

    fn dispatches_of(&self, steps: Range<usize>) -> Range<usize> {
        self.plan.first_of_step[steps.start]..self.plan.first_of_step[steps.end]
    }

    /// Overwrites a tensor.
    ///
    /// # Errors
    /// `bytes` of another size than the tensor; a device that is lost.
    pub fn write(&mut self, tensor: TensorId, bytes: &[u8]) -> Result<(), GpuError> {
        self.gpu.check()?;
        let described = self.schedule.tensor(tensor);
        let expected = described.bytes();
        if bytes.len() != expected {
            return Err(GpuError::Size { tensor: described.to_string(), expected, got: bytes.len() });
        }
        let (buffer, place) = self.schedule.place(self.schedule.whole(tensor));
        let buffer = &self.plan.buffers[buffer];
        self.written += bytes.len() as u64;
        let flush = self.written > WRITTEN_BYTES;
        let ((), outcome) = self.gpu.scoped(&described.name, bytes.len() as u64, || {
            self.gpu.queue.write_buffer(buffer, place.start as u64, bytes);
            if flush {
                self.gpu.queue.submit([]);
            }
        });
        if flush {
            self.written = 0;
        }
        self.note(outcome)
    }

    /// Copies a tensor as it is after everything that was run up to now, all of the phase that was started included, and
    /// gives the bytes when they are there. The copy is submitted with the end of that phase.
    ///
    /// # Errors
    /// A device that is lost, memory for the copy.
    pub fn read_later(&mut self, tensor: TensorId) -> Result<Readback, GpuError> {
        self.gpu.check()?;
        let (buffer, bytes) = self.schedule.place(self.schedule.whole(tensor));
        let name = &self.schedule.tensor(tensor).name;
        let source = &self.plan.buffers[buffer];
        let (readback, copy, outcome) = Readback::of(&self.gpu, &self.ring, name, source, bytes)?;
        self.copies.push(copy);
        self.note(outcome)?;
        if self.rest.is_empty() {
            self.submit_part(0..0)?;
        }
        Ok(readback)
    }

    /// A tensor's bytes, after everything that was run up to now. Of an activation: what the last step that used its
    /// memory left there.
    ///
    /// # Errors
    /// As [`GpuExecutor::read_later`], or a device that hangs.
    pub async fn read(&mut self, tensor: TensorId) -> Result<Vec<u8>, GpuError> {
        self.read_later(tensor)?.wait().await
    }

    /// Runs a phase: it is submitted when this returns, not done.
    ///
    /// # Errors
    /// A device that is lost or hangs; a phase before that was not advanced to its end.
    pub async fn run(&mut self, phase: Phase) -> Result<(), GpuError> {
        self.start(phase)?;
        self.submit_rest().await
    }

    /// Runs one step of the schedule; submitted, not done, when this returns.
    ///
    /// # Errors
    /// As [`GpuExecutor::run`].
    pub async fn run_step(&mut self, index: usize) -> Result<(), GpuError> {
        self.begin(self.schedule.steps()[index].phase, index..index + 1)?;
        self.submit_rest().await
    }

    /// Begins a phase without submitting any of it: [`GpuExecutor::advance`] does.
    ///
    /// # Errors
    /// A phase before that was not advanced to its end.
    pub fn start(&mut self, phase: Phase) -> Result<(), GpuError> {
        self.begin(phase, self.schedule.phase(phase))
    }

    fn begin(&mut self, phase: Phase, steps: Range<usize>) -> Result<(), GpuError> {
        if !self.rest.is_empty() {
            return Err(GpuError::Unfinished { phase, left: self.rest.len() });
        }
        self.rest = self.dispatches_of(steps);
        Ok(())
    }

    /// Submits as much of the phase as keeps the device busy for about `budget`, what it is still at included, and at
    /// most three submits. Never waits: an application calls this once a frame. An idle device gets one dispatch at
    /// least, and none is thought to take longer than 50 ms on a slow device of its class. While times are noted
    /// nothing is submitted here: [`GpuExecutor::room`] does.
    ///
    /// # Errors
    /// A device that is lost.
    pub fn advance(&mut self, budget: Duration) -> Result<Progress, GpuError> {
        self.gpu.check()?;
        self.gpu.glance()?;
        self.collect();
        while self.timing.is_none() && !self.rest.is_empty() && self.flights.len() < IN_FLIGHT {
            let before: f64 = self.flights.iter().map(|flight| self.pace.seconds(flight.estimated)).sum();
            let left = budget.as_secs_f64() - before;
            if left <= 0.0 && !self.flights.is_empty() {
                break;
            }
            self.submit_part(self.part(self.pace.work(left.min(SUBMIT_SECONDS))))?;
        }
        Ok(if self.rest.is_empty() { Progress::Done } else { Progress::More })
    }

    /// Waits until the oldest submit has ended, if there is one: then there is room for another.
    ///
    /// # Errors
    /// A device that is lost or hangs.
    pub async fn room(&mut self) -> Result<(), GpuError> {
        if self.timing.is_some() && !self.rest.is_empty() {
            return self.submit_timed().await;
        }
        self.land().await
    }

    /// Time inside of submits since the last call. Drivers differ in what they do there: lavapipe computes.
    pub fn take_submitting(&mut self) -> Duration {
        std::mem::take(&mut self.submitting)
    }

    /// Submits that are not known to have ended.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Forgets what is left of the phase that was started, and the reads that wait for its end.
    pub fn abandon(&mut self) {
        self.rest = 0..0;
        self.copies.clear();
    }

    /// Waits until the device has nothing to do.
    ///
    /// # Errors
    /// A device that is lost or hangs.
    pub async fn wait(&mut self) -> Result<(), GpuError> {
        while !self.flights.is_empty() {
            self.land().await?;
        }
        self.gpu.check()
    }

    /// Begins to note when steps run, or ends it. Each dispatch is a pass of its own then, and every submit is waited
    /// for: it takes longer, and computes the same.
    ///
    /// # Errors
    /// A device without timestamp queries, memory.
    pub async fn record_times(&mut self, on: bool) -> Result<(), GpuError> {
        self.timing = if on { Some(Box::new(Timing::new(&self.gpu).await?)) } else { None };
        Ok(())
    }

    /// What was noted since the last call.
    pub fn take_times(&mut self) -> Vec<StepTime> {
        self.timing.as_mut().map(|timing| timing.take()).unwrap_or_default()
    }

    async fn submit_rest(&mut self) -> Result<(), GpuError> {
        while self.advance(Duration::MAX)? == Progress::More {
            self.room().await?;
        }
        Ok(())
    }

    async fn submit_timed(&mut self) -> Result<(), GpuError> {
        self.wait().await?;
        while let Some(timing) = self.timing.as_mut().filter(|_| !self.rest.is_empty()) {
            let part = self.rest.start..self.rest.end.min(self.rest.start + Timing::MOST);
            timing.run(&self.gpu, &self.plan, part.clone()).await?;
            self.rest.start = part.end;
            self.written = 0;
        }
        if self.copies.is_empty() { Ok(()) } else { self.submit_part(0..0) }
    }

    /// Waits for the oldest submit and learns from its time.
    async fn land(&mut self) -> Result<(), GpuError> {
        let Some(flight) = self.flights.pop_front() else { return Ok(()) };
        let ended = self.gpu.wait_for(&flight.ended, "step").await?;
        self.learn(&flight, ended, ended);
        self.looked = platform::now();
        Ok(())
    }

    /// Takes the submits off the list that have ended. When, lies between the last look and this one.
    fn collect(&mut self) {
        while let Some(ended) = self.flights.front().and_then(|flight| flight.ended.take()) {
            let Some(flight) = self.flights.pop_front() else { break };
            self.learn(&flight, self.looked.min(ended), ended);
        }
        self.looked = platform::now();
    }

    /// Learns from a submit that ended between two points of time.
    fn learn(&mut self, flight: &Flight, after: Duration, before: Duration) {
        let began = flight.submitted.max(self.landed);
        let [least, most] = [after, before].map(|end| end.saturating_sub(began).as_secs_f64());
        self.pace.learn(flight.estimated, least, most);
        self.landed = before;
    }

    /// Records and submits some dispatches, and the copies with the last of a phase.
    fn submit_part(&mut self, part: Range<usize>) -> Result<(), GpuError> {
        self.gpu.check()?;
        let dispatches = &self.plan.dispatches[part.clone()];
        let copies = if part.end == self.rest.end || part.is_empty() { self.copies.split_off(0) } else { Vec::new() };
        let ended = Signal::new();
        let (submitting, outcome) = self.gpu.scoped("submit", 0, || {
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            if !dispatches.is_empty() {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for dispatch in dispatches {
                    pass.set_pipeline(&dispatch.pipeline);
                    pass.set_bind_group(0, &dispatch.group, &[]);
                    pass.dispatch_workgroups(dispatch.x, dispatch.y, 1);
                }
            }
            copies.into_iter().for_each(|copy| copy.record(&mut encoder));
            let commands = encoder.finish();
            let start = platform::now();
            self.gpu.submit(commands, &ended);
            platform::now() - start
        });
        let estimated = dispatches.iter().map(|dispatch| dispatch.seconds).sum();
        if !part.is_empty() {
            self.rest.start = part.end;
        }
        self.written = 0;
        self.submitting += submitting;
        self.flights.push_back(Flight { ended, submitted: platform::now(), estimated });
        self.note(outcome)
    }

    fn part(&self, mut work: f64) -> Range<usize> {
        let mut end = self.rest.start;
        while end < self.rest.end && (end == self.rest.start || self.plan.dispatches[end].seconds <= work) {
            work -= self.plan.dispatches[end].seconds;
            end += 1;
        }
        self.rest.start..end
    }

    /// Takes what has resolved of the error scopes. After an error nothing of the phase is left to submit.
    fn note(&mut self, outcome: Outcome) -> Result<(), GpuError> {
        self.outcomes.push(outcome);
        let mut first = Ok(());
        self.outcomes.retain_mut(|outcome| match Pin::as_mut(outcome).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                if first.is_ok() {
                    first = result;
                }
                false
            }
        });
        if first.is_err() {
            self.abandon();
        }
        first
    }
}
