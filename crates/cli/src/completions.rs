//! `evenkeel completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Cli, Outcome, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: evenkeel completions bash > ~/.local/share/bash-completion/completions/evenkeel\n\n\
                  zsh: into a folder of $fpath, as _evenkeel; fish: ~/.config/fish/completions/evenkeel.fish")]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "evenkeel", &mut script);
    output::bytes(&script);
    Ok(())
}
