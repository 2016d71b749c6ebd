//! `evenkeel report`: one or several runs as a page of HTML that needs nothing else, neither scripts nor a network.

mod chart;
mod facts;
mod figures;
mod page;
mod run;

use std::path::PathBuf;

use crate::{Outcome, output};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  evenkeel report runs/book\n  evenkeel report runs/short runs/long --out compared.html"
)]
pub(crate) struct Arguments {
    /// Run folders, also of runs that are going on; the first is compared with the others
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The page
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let Arguments { runs, out } = arguments;
    let runs = run::read(&runs)?;
    for fault in runs.iter().flat_map(|run| &run.faults) {
        output::note(&format!("left out: {fault}"));
    }
    output::file(&out, page::page(&runs)?.as_bytes())
        .map_err(|error| format!("cannot write {}: {error}", out.display()))?;
    output::line(&format!("wrote {}", out.display()));
    Ok(())
}
