//! The texts of a batch as a person reads them: one after the other in the order of the prompts, the first that is not
//! complete as it comes.

use evenkeel_data::{Decoder, Tokenizer};
use evenkeel_train::{End, Reader, StopStrings};
use serde_json::json;

use crate::{output, signals::Interrupt};

/// One text.
struct Row {
    prompt: String,
    decoder: Option<Decoder>,
    stop: StopStrings,
    /// Certain text that is not shown.
    text: Vec<u8>,
    tokens: usize,
    end: Option<End>,
}

/// Shows the texts of a batch.
pub(crate) struct Rows {
    rows: Vec<Row>,
    /// Rows that are shown to their ends.
    shown: usize,
    /// Whether the next one is shown in part.
    begun: bool,
    context: usize,
    json: bool,
    interrupt: Interrupt,
}

impl Rows {
    pub(crate) fn new(
        prompts: Vec<String>,
        tokenizer: &Tokenizer,
        stop: &[String],
        context: usize,
        json: bool,
        interrupt: Interrupt,
    ) -> Self {
        let row = |prompt| Row {
            prompt,
            decoder: Some(tokenizer.decoder()),
            stop: StopStrings::new(stop),
            text: Vec::new(),
            tokens: 0,
            end: None,
        };
        Self { rows: prompts.into_iter().map(row).collect(), shown: 0, begun: false, context, json, interrupt }
    }

    /// Shows what is there.
    fn show(&mut self) {
        while let Some(row) = self.rows.get_mut(self.shown) {
            if self.json {
                let Some(end) = row.end else { return };
                let text = String::from_utf8_lossy(&row.text);
                let line = json!({ "prompt": row.prompt, "text": text, "tokens": row.tokens, "end": end.name() });
                output::line(&line.to_string());
            } else {
                if !self.begun {
                    self.begun = true;
                    if self.shown > 0 {
                        output::line("");
                    }
                    output::bytes(row.prompt.as_bytes());
                }
                output::bytes(&std::mem::take(&mut row.text));
                let Some(end) = row.end else { return };
                output::line("");
                if end == End::Context {
                    let most = self.context;
                    output::note(&format!(
                        "the context is full: prompt {} has {most} tokens with its text",
                        self.shown + 1
                    ));
                }
            }
            self.begun = false;
            self.shown += 1;
        }
    }

    /// Ends the line that an error leaves open.
    pub(crate) fn finish(&mut self) {
        if self.begun {
            output::line("");
        }
    }
}

impl Reader for Rows {
    fn token(&mut self, prompt: usize, token: u32) -> bool {
        let row = &mut self.rows[prompt];
        let text = row.decoder.as_mut().map(|decoder| decoder.push(token)).unwrap_or_default();
        let (text, stopped) = row.stop.push(text.as_bytes());
        row.text.extend(text);
        row.tokens += 1;
        self.show();
        !stopped
    }

    fn ended(&mut self, prompt: usize, end: End) {
        let row = &mut self.rows[prompt];
        row.end = Some(end);
        if end != End::Stopped
            && let Some(decoder) = row.decoder.take()
        {
            let (text, stopped) = row.stop.push(decoder.finish().as_bytes());
            row.text.extend(text);
            if !stopped {
                row.text.extend(row.stop.finish());
            }
        }
        self.show();
    }

    fn interrupted(&mut self) -> bool {
        self.interrupt.came()
    }
}
