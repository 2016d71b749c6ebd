//! `evenkeel man`.

use std::{fs, path::PathBuf};

use clap::CommandFactory;
use clap_mangen::Man;

use crate::{Cli, Outcome, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  evenkeel man | man -l -\n  evenkeel man --out ~/.local/share/man/man1")]
pub(crate) struct Arguments {
    /// Writes evenkeel.1 and a page for every verb into this folder, in place of the first one to stdout
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let Some(folder) = arguments.out else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        output::bytes(&page);
        return Ok(());
    };
    fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    clap_mangen::generate_to(Cli::command(), &folder)
        .map_err(|error| format!("cannot write the manual into {}: {error}", folder.display()))?;
    output::note(&format!("wrote the manual into {}", folder.display()));
    Ok(())
}
