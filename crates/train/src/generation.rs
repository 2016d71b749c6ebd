//! Text from a model, with a cache of keys and values on the device: prompts go in by pieces, then every sequence grows by a
//! token at a time, many side by side. A sequence that ends makes room for the next prompt.
//!
//! What a sequence becomes depends on its prompt and on the seed, and not on its neighbours: every kernel computes a row by
//! itself, and every sequence draws its own random numbers.

use std::time::{Duration, Instant};

use evenkeel_model::generation::{GenerationStep, GenerationTensors};
use evenkeel_schedule::Phase;

use crate::{Executor, Program, Sampler, Sampling, TrainError};

/// Positions of a piece of a prompt. Short prompts pay for a whole piece, long ones for each piece's dispatches.
pub const PIECE: usize = 64;
/// Most sequences side by side: as many rows as the kernels for few rows take, which give a row the same bits for any
/// number of rows.
pub const MOST_SEQUENCES: usize = 8;
/// In the place of a sequence: a row of padding.
const PADDING: [u32; 2] = [u32::MAX, 0];

/// What is asked of a generation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Generation {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens to add to a prompt.
    pub max_new_tokens: usize,
    /// The token that ends a text.
    pub end_token: Option<u32>,
    /// Ids from here on stand for nothing and are not chosen.
    pub known_tokens: usize,
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model said so, by its end token.
    EndToken,
    /// Its reader said so.
    Stopped,
    /// It has all tokens that were asked for.
    Length,
    /// Its context is full.
    Context,
    /// The generation was interrupted.
    Interrupted,
}

impl End {
    /// One word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndToken => "end_token",
            Self::Stopped => "stop",
            Self::Length => "length",
            Self::Context => "context",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Who reads what is generated, by the number of the prompt.
pub trait Reader {
    /// A new token, never the end token. False ends the sequence.
    fn token(&mut self, prompt: usize, token: u32) -> bool;

    /// No more tokens of this prompt.
    fn ended(&mut self, prompt: usize, end: End);

    /// Whether to stop everything; asked before every step.
    fn interrupted(&mut self) -> bool {
        false
    }
}

/// What was computed, and in which time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speed {
    /// Tokens of prompts.
    pub prefill_tokens: u64,
    /// Time for them, up to each prompt's first new token.
    pub prefill: Duration,
    /// New tokens after each prompt's first.
    pub decode_tokens: u64,
    /// Time for them.
    pub decode: Duration,
}

impl std::ops::Add for Speed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            prefill_tokens: self.prefill_tokens + other.prefill_tokens,
            prefill: self.prefill + other.prefill,
            decode_tokens: self.decode_tokens + other.decode_tokens,
            decode: self.decode + other.decode,
        }
    }
}

/// A sequence that grows.
struct Sequence {
    prompt: usize,
    sampler: Sampler,
    /// Tokens in all.
    length: usize,
    new: usize,
    /// The last token, which the cache does not hold yet.
    last: u32,
}

struct Run<'a> {
    tensors: &'a GenerationTensors,
    executor: &'a mut Executor,
    options: &'a Generation,
    reader: &'a mut dyn Reader,
    /// By place in the cache.
    sequences: Vec<Option<Sequence>>,
    speed: Speed,
}

/// Continues every prompt. All of them are checked before the first begins.
///
/// # Errors
/// A program without generation, a prompt without tokens, with more than the context holds or with ids beyond the vocabulary,
/// logits that are not finite, a device that is lost.
pub async fn generate(
    program: &Program,
    executor: &mut Executor,
    prompts: &[Vec<u32>],
    options: &Generation,
    reader: &mut dyn Reader,
) -> Result<Speed, TrainError> {
    let Some(tensors) = &program.generation else { return Err(TrainError::Program { part: "generation" }) };
    let context = tensors.shape.context;
    for (i, prompt) in prompts.iter().enumerate() {
        let fault = |expected: String, got: String| Err(TrainError::Prompt { number: i + 1, expected, got });
        if prompt.is_empty() || prompt.len() > context {
            return fault(format!("1 to {context} tokens (the context)"), prompt.len().to_string());
        }
        let vocabulary = program.config.vocab_size;
        if let Some(token) = prompt.iter().find(|&&token| token as usize >= vocabulary) {
            return fault(format!("token ids below vocab_size {vocabulary}"), token.to_string());
        }
    }
    let sequences = (0..tensors.shape.sequences).map(|_| None).collect();
    let mut run = Run { tensors, executor, options, reader, sequences, speed: Speed::default() };
    run.all(prompts).await?;
    Ok(run.speed)
}

impl Run<'_> {
    async fn all(&mut self, prompts: &[Vec<u32>]) -> Result<(), TrainError> {
        let mut waiting = prompts.iter().enumerate();
        loop {
            while let Some(place) = self.sequences.iter().position(Option::is_none) {
                let Some((number, prompt)) = waiting.next() else { break };
                if self.reader.interrupted() {
                    self.interrupt();
                    return Ok(());
                }
                self.begin(place, number, prompt).await?;
            }
            if self.sequences.iter().all(Option::is_none) {
                return Ok(());
            }
            if self.reader.interrupted() {
                self.interrupt();
                return Ok(());
            }
            self.decode().await?;
        }
    }

    fn interrupt(&mut self) {
        for sequence in self.sequences.iter_mut().filter_map(Option::take) {
            self.reader.ended(sequence.prompt, End::Interrupted);
        }
    }

    /// Puts a prompt into the cache and takes its first new token.
    async fn begin(&mut self, place: usize, number: usize, prompt: &[u32]) -> Result<(), TrainError> {
        let nothing_wanted = self.options.max_new_tokens == 0;
        if nothing_wanted || prompt.len() >= self.tensors.shape.context {
            self.reader.ended(number, if nothing_wanted { End::Length } else { End::Context });
            return Ok(());
        }
        let start = Instant::now();
        let piece = self.tensors.shape.piece;
        for (i, tokens) in prompt.chunks(piece).enumerate() {
            if i > 0 && self.reader.interrupted() {
                self.reader.ended(number, End::Interrupted);
                return Ok(());
            }
            let mut padded = vec![0; piece];
            padded[..tokens.len()].copy_from_slice(tokens);
            let mut rows = vec![PADDING; piece];
            for (row, position) in rows.iter_mut().zip(i * piece..prompt.len()) {
                *row = [place as u32, position as u32];
            }
            self.write(&self.tensors.prefill, &padded, &rows)?;
            self.executor.write(self.tensors.last, &[tokens.len() as u32 - 1])?;
            self.executor.run(Phase::Prefill).await?;
        }
        let logits = self.executor.read(self.tensors.prefill.logits).await?;
        self.speed.prefill += start.elapsed();
        self.speed.prefill_tokens += prompt.len() as u64;
        let sampler = Sampler::new(self.options.sampling, prompt);
        let sequence = Sequence { prompt: number, sampler, length: prompt.len(), new: 0, last: 0 };
        self.sequences[place] = self.extend(sequence, &logits)?;
        Ok(())
    }

    /// Adds a token to every sequence.
    async fn decode(&mut self) -> Result<(), TrainError> {
        let start = Instant::now();
        let row = |(place, sequence): (usize, &Option<Sequence>)| match sequence {
            Some(sequence) => (sequence.last, [place as u32, sequence.length as u32 - 1]),
            None => (0, PADDING),
        };
        let (tokens, rows): (Vec<u32>, Vec<[u32; 2]>) = self.sequences.iter().enumerate().map(row).unzip();
        self.write(&self.tensors.decode, &tokens, &rows)?;
        self.executor.run(Phase::Decode).await?;
        let logits = self.executor.read(self.tensors.decode.logits).await?;
        for (place, logits) in logits.chunks(self.tensors.logits_stride).enumerate() {
            if let Some(sequence) = self.sequences[place].take() {
                self.sequences[place] = self.extend(sequence, logits)?;
                self.speed.decode_tokens += 1;
            }
        }
        self.speed.decode += start.elapsed();
        Ok(())
    }

    fn write(&mut self, step: &GenerationStep, tokens: &[u32], rows: &[[u32; 2]]) -> Result<(), TrainError> {
        self.executor.write(step.tokens, tokens)?;
        self.executor.write(step.rows, rows)
    }

    /// The sequence with its next token; none where it ends.
    fn extend(&mut self, mut sequence: Sequence, logits: &[f32]) -> Result<Option<Sequence>, TrainError> {
        let token = sequence.sampler.next(&logits[..self.options.known_tokens.min(logits.len())])?;
        sequence.last = token;
        sequence.length += 1;
        sequence.new += 1;
        let end = if self.options.end_token == Some(token) {
            Some(End::EndToken)
        } else if !self.reader.token(sequence.prompt, token) {
            Some(End::Stopped)
        } else if sequence.new == self.options.max_new_tokens {
            Some(End::Length)
        } else {
            (sequence.length == self.tensors.shape.context).then_some(End::Context)
        };
        let Some(end) = end else { return Ok(Some(sequence)) };
        self.reader.ended(sequence.prompt, end);
        Ok(None)
    }
}
