//! `evenkeel schedule dump` and `schedule diff`: the training step as a table, and the debugger that runs it on two
//! executors side by side.

use evenkeel_schedule::Table;
use evenkeel_train::{Compute, Setup, difference};

use crate::{Outcome, adapter, output, pretrain::SettingsArguments};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Prints every step: scope, kernel, reads, writes, groups, MFLOP, MB; then the memory
    #[command(after_help = "Example: evenkeel schedule dump --preset nano")]
    Dump(SettingsArguments),
    /// Runs a training step on the adapter and on the CPU executor and names the first kernel that differs
    #[command(after_help = "Example: evenkeel schedule diff --preset nano --adapter llvmpipe")]
    Diff(SettingsArguments),
}

pub(crate) async fn run(arguments: Arguments, adapter: Option<&str>) -> Outcome {
    match arguments.action {
        Action::Dump(arguments) => {
            let compute = adapter::open(adapter).await?;
            let setup = Setup::new(&arguments.resolve()?, &compute)?;
            let table = Table { schedule: &setup.program.schedule, device: compute.device() };
            output::bytes(table.to_string().as_bytes());
            Ok(())
        }
        Action::Diff(arguments) => {
            let settings = arguments.resolve()?;
            let compute = adapter::open(adapter).await?;
            if matches!(compute, Compute::Cpu) {
                return Err("schedule diff: expected an adapter to compare with the CPU executor, got the CPU".into());
            }
            let report = difference::compare(&settings, &compute).await?;
            output::line(&report.to_string());
            match report.first {
                None => Ok(()),
                Some(_) => Err("schedule diff: expected no difference, got one".into()),
            }
        }
    }
}
