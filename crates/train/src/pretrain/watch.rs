//! What a run tells, and who listens to it.

use std::path::Path;

use evenkeel_data::DataEvent;
use evenkeel_schedule::Schedule;

use crate::{
    Plan,
    inspection::run::Sample,
    metrics::{EvaluationRow, StepRow},
    profile::Profile,
};

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
        folder: &'a Path,
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
    Checkpoint(&'a Path),
    /// The next piece of the last sample's text.
    Sample(&'a str),
    /// A sample is complete.
    Sampled(&'a Sample),
    /// A step for which [`Watch::profiles`] asked is done: the schedule, all such steps so far, and their trace.
    Profiled(&'a Schedule, &'a Profile, &'a Path),
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

    /// Whether the run is to write samples.
    fn samples(&self) -> bool {
        true
    }
}
