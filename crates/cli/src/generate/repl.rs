//! Prompts that are typed, with a line editor, or that another program writes.

use std::io::{self, BufRead, IsTerminal};

use rustyline::{DefaultEditor, error::ReadlineError};

use crate::output;

/// Where lines come from.
pub(crate) enum Lines {
    /// A person at a terminal.
    Typed(Box<DefaultEditor>),
    /// Another program.
    Piped,
}

impl Lines {
    /// Standard input: a person's where it is a terminal and so is the output.
    pub(crate) fn open() -> Result<Self, ReadlineError> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(Self::Piped);
        }
        output::note("a prompt on every line; Ctrl-C ends a text, Ctrl-D the program");
        Ok(Self::Typed(Box::new(DefaultEditor::new()?)))
    }

    /// Whether a person types them.
    pub(crate) fn typed(&self) -> bool {
        matches!(self, Self::Typed(_))
    }

    /// The next line; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<String>, Box<dyn std::error::Error>> {
        match self {
            Self::Piped => {
                io::stdin().lock().lines().next().transpose().map_err(|error| format!("standard input: {error}").into())
            }
            Self::Typed(editor) => loop {
                match editor.readline("> ") {
                    Ok(line) => {
                        editor.add_history_entry(&line)?;
                        return Ok(Some(line));
                    }
                    Err(ReadlineError::Interrupted) => {} // the line is dropped
                    Err(ReadlineError::Eof) => return Ok(None),
                    // Whoever types can type something else.
                    Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                        output::error("prompt: expected UTF-8, got other bytes");
                    }
                    Err(error) => return Err(error.into()),
                }
            },
        }
    }
}
