//! From logits to a token: repetition penalty, temperature, top-k, top-p and min-p, in the order and with the meaning of
//! transformers' logits processors; all of it in f64.

use std::collections::HashSet;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::TrainError;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only so many of the likeliest tokens, and those that are as likely as the last of them; 0: all.
    pub top_k: usize,
    /// Only the likeliest tokens up to the one that brings their share to this; 1: all. (Holtzman et al. 2020)
    pub top_p: f64,
    /// Only tokens at least this many times as likely as the likeliest; 0: all. (Nguyen et al. 2024)
    pub min_p: f64,
    /// Divides the logits of tokens that were there before where they are positive, multiplies them where they are
    /// negative; 1: nothing. (Keskar et al. 2019)
    pub repetition_penalty: f64,
    /// Same seed and prompt, same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

/// Chooses the tokens of one sequence. What it draws depends on seed and prompt, and on no other sequence.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
    seen: HashSet<u32>,
}

impl Sampler {
    /// A sampler for what follows `prompt`.
    pub fn new(sampling: Sampling, prompt: &[u32]) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(sampling.seed);
        random.set_stream(hash(prompt));
        Self { sampling, random, seen: prompt.iter().copied().collect() }
    }

    /// The next token of the sequence, by its logits.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub fn next(&mut self, logits: &[f32]) -> Result<u32, TrainError> {
        let token = if self.sampling.temperature == 0.0 {
            likeliest(&self.penalised(logits)?)
        } else {
            let uniform = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64; // 53 random bits: in [0, 1)
            draw(&shares(&self.penalised(logits)?, &self.sampling), uniform)
        };
        self.seen.insert(token);
        Ok(token)
    }

    fn penalised(&self, logits: &[f32]) -> Result<Vec<f64>, TrainError> {
        if let Some(bad) = logits.iter().find(|logit| !logit.is_finite()) {
            return Err(TrainError::Logits { got: *bad });
        }
        let mut logits: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
        if self.sampling.repetition_penalty != 1.0 {
            let penalty = self.sampling.repetition_penalty;
            for &token in &self.seen {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit *= if *logit < 0.0 { penalty } else { 1.0 / penalty };
                }
            }
        }
        Ok(logits)
    }
}

/// The FNV-1a hash of a prompt: sequences with other prompts draw other numbers.
fn hash(prompt: &[u32]) -> u64 {
    let bytes = prompt.iter().flat_map(|token| token.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The first of the largest.
fn likeliest(logits: &[f64]) -> u32 {
    let larger = |best: usize, id: usize| if logits[id] > logits[best] { id } else { best };
    (0..logits.len()).fold(0, larger) as u32
}

/// The tokens to choose from, with numbers proportional to their probabilities.
fn shares(logits: &[f64], sampling: &Sampling) -> Vec<(u32, f64)> {
    let mut kept: Vec<(u32, f64)> = (0..).zip(logits.iter().copied()).collect();
    if sampling.top_k > 0 && sampling.top_k < kept.len() {
        let mut sorted: Vec<f64> = kept.iter().map(|(_, logit)| *logit).collect();
        let (_, &mut last, _) = sorted.select_nth_unstable_by(sampling.top_k - 1, |a, b| b.total_cmp(a));
        kept.retain(|(_, logit)| *logit >= last);
    }
    let largest = kept.iter().map(|(_, logit)| *logit).fold(f64::NEG_INFINITY, f64::max);
    // The difference first: no temperature is so low that it leaves the largest anything but 0.
    kept.iter_mut().for_each(|(_, logit)| *logit = ((*logit - largest) / sampling.temperature).exp());
    if sampling.top_p < 1.0 {
        kept.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable: of equal ones the lower id first
        let all: f64 = kept.iter().map(|(_, share)| share).sum();
        let mut before = 0.0;
        kept.retain(|(_, share)| {
            let wanted = before == 0.0 || before < sampling.top_p * all;
            before += share;
            wanted
        });
    }
    // The likeliest token's share is e^0.
    kept.retain(|(_, share)| *share >= sampling.min_p);
    kept
}

/// The token at `uniform` of the way through the shares.
fn draw(shares: &[(u32, f64)], uniform: f64) -> u32 {
    let mut rest = uniform * shares.iter().map(|(_, share)| share).sum::<f64>();
    for &(token, share) in shares {
        rest -= share;
        if rest < 0.0 {
            return token;
        }
    }
    shares.last().map_or(0, |(token, _)| *token) // where rounding has left something
}

#[cfg(test)]
mod tests;
