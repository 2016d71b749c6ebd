//! The CPU executor: the same schedule, each step by its card's CPU kernel.

use std::{ops::Range, sync::Arc, time::Instant};

use bytemuck::cast_slice;
use evenkeel_shaders::{Access, CpuArgs, CpuSlice};

use crate::{DType, Phase, Schedule, ScheduleError, Step, StepTime, TensorId};

/// Runs a schedule in this process's memory, all of which is allocated at the start.
#[derive(Debug)]
pub struct CpuExecutor {
    schedule: Arc<Schedule>,
    /// By planned buffer; u32 tensors lie in it by their bits.
    buffers: Vec<Vec<f32>>,
    clock: Option<Clock>,
}

/// Times of steps, since it was asked for them.
#[derive(Debug)]
struct Clock {
    origin: Instant,
    times: Vec<StepTime>,
}

impl CpuExecutor {
    /// Allocates the planned memory, zeroed.
    pub fn new(schedule: Arc<Schedule>) -> Self {
        let words = |bytes: u64| bytes as usize / size_of::<f32>();
        let buffers = schedule.memory().buffers().iter().map(|buffer| vec![0.0; words(buffer.bytes)]).collect();
        Self { schedule, buffers, clock: None }
    }

    /// What it runs.
    pub fn schedule(&self) -> &Arc<Schedule> {
        &self.schedule
    }

    fn words(&self, tensor: TensorId) -> (usize, Range<usize>) {
        let (buffer, bytes) = self.schedule.place(self.schedule.whole(tensor));
        (buffer, bytes.start / size_of::<f32>()..bytes.end / size_of::<f32>())
    }

    /// Overwrites a tensor.
    ///
    /// # Errors
    /// `bytes` of another size than the tensor.
    pub fn write(&mut self, tensor: TensorId, bytes: &[u8]) -> Result<(), ScheduleError> {
        let expected = self.schedule.tensor(tensor).bytes();
        if bytes.len() != expected {
            let tensor = self.schedule.tensor(tensor).to_string();
            return Err(ScheduleError::Size { tensor, expected, got: bytes.len() });
        }
        let (buffer, words) = self.words(tensor);
        bytemuck::cast_slice_mut(&mut self.buffers[buffer][words]).copy_from_slice(bytes);
        Ok(())
    }

    /// A tensor's bytes. Of an activation: what the last step that used its memory left there.
    pub fn read(&self, tensor: TensorId) -> Vec<u8> {
        let (buffer, words) = self.words(tensor);
        cast_slice(&self.buffers[buffer][words]).to_vec()
    }

    /// Begins to note when steps run, or ends it.
    pub fn record_times(&mut self, on: bool) {
        self.clock = on.then(|| Clock { origin: Instant::now(), times: Vec::new() });
    }

    /// What was noted since the last call.
    pub fn take_times(&mut self) -> Vec<StepTime> {
        self.clock.as_mut().map(|clock| std::mem::take(&mut clock.times)).unwrap_or_default()
    }

    /// Runs all steps of a phase.
    pub fn run(&mut self, phase: Phase) {
        for index in self.schedule.phase(phase) {
            self.run_step(index);
        }
    }

    /// Runs one step.
    pub fn run_step(&mut self, index: usize) {
        let schedule = Arc::clone(&self.schedule);
        let step = &schedule.steps()[index];
        let now = |clock: &Clock| clock.origin.elapsed().as_secs_f64();
        let began = self.clock.as_ref().map(now);
        let args = self.bind(step);
        (step.card.cpu)(&step.params, args);
        if let (Some(began), Some(clock)) = (began, &mut self.clock) {
            let ended = now(clock);
            clock.times.push(StepTime { step: index, began, ended });
        }
    }

    fn bind(&mut self, step: &Step) -> CpuArgs<'_> {
        let mut args = CpuArgs::default();
        for (arg, view) in step.card.args.iter().zip(&step.views) {
            let (buffer, bytes) = self.schedule.place(*view);
            let words = bytes.start / size_of::<f32>()..bytes.end / size_of::<f32>();
            let memory = &mut self.buffers[buffer];
            assert!(words.end <= memory.len(), "the memory plan places {} within its buffer", arg.name);
            // SAFETY: the range lies within `memory` (asserted), which outlives the returned borrow of self and is
            // neither moved nor resized meanwhile. The recorder refuses a step that writes a buffer which it also
            // binds elsewhere, and memory of tensors alive at the same time is never shared, so a mutable slice
            // overlaps no other slice of this step.
            let slice = unsafe {
                let start = memory.as_mut_ptr().add(words.start);
                match arg.access {
                    Access::Read => CpuSlice::F32(std::slice::from_raw_parts(start, words.len())),
                    Access::Write | Access::ReadWrite => {
                        CpuSlice::F32Mut(std::slice::from_raw_parts_mut(start, words.len()))
                    }
                }
            };
            let slice = match (arg.dtype, slice) {
                (DType::U32, CpuSlice::F32(words)) => CpuSlice::U32(cast_slice(words)),
                (_, slice) => slice,
            };
            args.bind(arg.name, slice);
        }
        args
    }
}
