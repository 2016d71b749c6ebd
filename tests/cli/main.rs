//! The `evenkeel` binary from outside: what it prints, writes and refuses.
//!
//! Every test has a folder of its own and starts the binary that was built beside the tests. `EVENKEEL_ADAPTER` names
//! the adapter of the tests with `gpu` in their name.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

mod adapters;
mod bad_checkpoint;
mod bad_data;
mod bad_settings;
mod bench;
mod data;
mod doctor;
mod eval;
mod events;
mod export;
mod generate;
mod inspect;
mod lost_output;
mod non_finite;
mod place;
mod profile;
mod recipes;
mod repl;
mod report;
mod resume;
mod resume_refusals;
mod run_folder;
mod samples;
mod schedule;
mod settings;
mod shells;
mod storage;
mod study;
mod view;
