//! Studies: a grid of settings times seeds, every run an ordinary run folder, and what the runs say together.
//!
//! `OUT/ARM/seed-N` is the folder of a run, with the run's [`RunResult`] in its `result.json` as soon as it has ended; `OUT/study.md`
//! and `OUT/study.json` are the [`Report`]. Runs of one seed see the same data in the same order, whatever the arm.

mod grid;
mod markdown;
mod report;
mod result;
mod runs;
pub mod statistics;

pub use grid::{Arm, Study};
pub use report::{ArmReport, Difference, Loss, Report};
pub use result::{Matrix, Measured, Outcome, ResidualStream, RunResult};
pub use runs::{Plan, PlannedRun, Position, StudyWatch, run_folder};
