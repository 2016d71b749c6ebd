//! The CPU executor: the same schedule, each step by its card's CPU kernel. Those compute in f32: what is stored in half
//! precision is widened before a kernel and rounded to nearest after it.

use std::{ops::Range, sync::Arc, time::Instant};

use bytemuck::cast_slice;
use evenkeel_shaders::{Access, CpuArgs, CpuSlice};
use half::{
    f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};
use rayon::prelude::*;

use crate::{DType, Phase, Schedule, ScheduleError, Step, StepTime, TensorId, View};

/// Elements of one task of a conversion.
const CHUNK: usize = 1 << 14;

/// Runs a schedule in this process's memory, all of which is allocated at the start.
#[derive(Debug)]
pub struct CpuExecutor {
    schedule: Arc<Schedule>,
    /// By planned buffer; u32 and f16 tensors lie in it by their bits.
    buffers: Vec<Vec<f32>>,
    /// By argument of the step that runs: what is stored in half precision, in f32.
    widened: Vec<Vec<f32>>,
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
        Self { schedule, buffers, widened: Vec::new(), clock: None }
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
        let steps = self.schedule.phase(phase);
        // On a thread of the pool: from another one every kernel would hand its tasks over and wait, 10 us each.
        rayon::scope(|_| steps.for_each(|index| self.run_step(index)));
    }

    /// Runs one step.
    pub fn run_step(&mut self, index: usize) {
        let schedule = Arc::clone(&self.schedule);
        let step = &schedule.steps()[index];
        let now = |clock: &Clock| clock.origin.elapsed().as_secs_f64();
        let began = self.clock.as_ref().map(now);
        self.widen(step);
        let args = self.bind(step);
        (step.card.cpu)(&step.params, args);
        self.narrow(step);
        if let (Some(began), Some(clock)) = (began, &mut self.clock) {
            let ended = now(clock);
            clock.times.push(StepTime { step: index, began, ended });
        }
    }

    /// The elements of a view that is stored in half precision.
    fn halves(&mut self, view: View) -> &mut [f16] {
        let (buffer, bytes) = self.schedule.place(view);
        let bits: &mut [u16] = bytemuck::cast_slice_mut(&mut self.buffers[buffer]);
        bits[bytes.start / size_of::<u16>()..bytes.end / size_of::<u16>()].reinterpret_cast_mut()
    }

    fn widen(&mut self, step: &Step) {
        self.widened.resize_with(self.widened.len().max(step.views.len()), Vec::new);
        for (i, (arg, view)) in step.card.args.iter().zip(&step.views).enumerate() {
            if arg.stored(step.precision) != DType::F16 {
                continue;
            }
            let mut widened = std::mem::take(&mut self.widened[i]);
            widened.resize(view.len, 0.0);
            if arg.access != Access::Write || step.params.accumulates() {
                let pairs = self.halves(*view).par_chunks(CHUNK).zip(widened.par_chunks_mut(CHUNK));
                pairs.for_each(|(halves, widened)| halves.convert_to_f32_slice(widened));
            }
            self.widened[i] = widened;
        }
    }

    fn narrow(&mut self, step: &Step) {
        for (i, (arg, view)) in step.card.args.iter().zip(&step.views).enumerate() {
            if arg.stored(step.precision) != DType::F16 || arg.access == Access::Read {
                continue;
            }
            let widened = std::mem::take(&mut self.widened[i]);
            let pairs = self.halves(*view).par_chunks_mut(CHUNK).zip(widened.par_chunks(CHUNK));
            pairs.for_each(|(halves, widened)| halves.convert_from_f32_slice(widened));
            self.widened[i] = widened;
        }
    }

    fn bind(&mut self, step: &Step) -> CpuArgs<'_> {
        let mut args = CpuArgs::default();
        for (i, (arg, view)) in step.card.args.iter().zip(&step.views).enumerate() {
            let (buffer, bytes) = self.schedule.place(*view);
            let half = arg.stored(step.precision) == DType::F16;
            let words = bytes.start / size_of::<f32>()..bytes.end / size_of::<f32>();
            let words = if half { 0..view.len } else { words };
            let memory = if half { &mut self.widened[i] } else { &mut self.buffers[buffer] };
            assert!(words.end <= memory.len(), "the memory plan places {} within its buffer", arg.name);
            // SAFETY: the range lies within `memory` (asserted), which outlives the returned borrow of self and is
            // neither moved nor resized meanwhile. The recorder refuses a step that writes a buffer which it also
            // binds elsewhere, and memory of tensors alive at the same time is never shared, so a mutable slice
            // overlaps no other slice of this step. What is widened belongs to this argument alone.
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
