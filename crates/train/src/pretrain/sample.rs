//! What the model writes while it is trained.

use super::{Event, Run, Watch};
use crate::{End, Generation, Reader, Sampling, TrainError, generate, inspection::run::Sample};

/// How a sample is drawn.
const TEMPERATURE: f64 = 0.7;

impl Run<'_> {
    /// Whether the run writes a sample after `step`.
    pub(super) fn sample_is_due(&self, step: u64) -> bool {
        self.samples.is_some() && self.is_due(self.settings.train.sample_every, step)
    }

    /// Writes the sample that is due after `step`, unless it was written before; returns whether it was interrupted. Then
    /// it is written when the run goes on from the checkpoint of this step.
    pub(super) async fn sample(&mut self, step: u64) -> Result<bool, TrainError> {
        let due = self.sample_is_due(step);
        let (Some(samples), Some(tokenizer)) = (&mut self.samples, &self.tokenizer) else { return Ok(false) };
        if !due || samples.ends_with(step) {
            return Ok(false);
        }
        let seed = self.settings.train.seed;
        let options = Generation {
            sampling: Sampling { temperature: TEMPERATURE, seed, ..Sampling::default() },
            max_new_tokens: usize::MAX, // until the context is full
            end_token: None,
            known_tokens: tokenizer.vocab_size(),
        };
        let prompts = [vec![tokenizer.start()]];
        let shown = step == self.settings.train.steps;
        let mut writer = Writer {
            watch: &mut *self.watch,
            shown,
            decoder: Some(tokenizer.decoder()),
            text: String::new(),
            complete: false,
        };
        generate(&self.program, &mut self.executor, &prompts, &options, &mut writer).await?;
        let Writer { text, complete, .. } = writer;
        if complete {
            let sample = Sample { step, text };
            samples.append(&sample)?;
            self.watch.event(Event::Sampled(&sample));
        }
        Ok(!complete)
    }
}

/// Takes a sample piece by piece.
struct Writer<'a> {
    watch: &'a mut dyn Watch,
    /// Whether the pieces are shown as they come.
    shown: bool,
    decoder: Option<evenkeel_data::Decoder>,
    text: String,
    complete: bool,
}

impl Writer<'_> {
    fn write(&mut self, text: Option<String>) {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return };
        if self.shown {
            self.watch.event(Event::Sample(&text));
        }
        self.text += &text;
    }
}

impl Reader for Writer<'_> {
    fn token(&mut self, _: usize, token: u32) -> bool {
        let text = self.decoder.as_mut().map(|decoder| decoder.push(token));
        self.write(text);
        true
    }

    fn ended(&mut self, _: usize, end: End) {
        let text = self.decoder.take().map(evenkeel_data::Decoder::finish);
        self.write(text);
        self.complete = end != End::Interrupted;
    }

    fn interrupted(&mut self) -> bool {
        self.watch.stop()
    }
}
