//! Text from a model, one token at a time, without a cache: every token runs the whole context.

use evenkeel_schedule::Phase;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::{Executor, Program, TrainError};

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Same seed, same text.
    pub seed: u64,
}

/// Continues `tokens` by `new_tokens` of the first `ids` ids and hands each to `emit` as it comes. Once the context is full the oldest
/// half of it is forgotten.
///
/// # Errors
/// A program without generation, logits that are not finite, a device that is lost.
pub async fn generate(
    program: &Program,
    executor: &mut Executor,
    tokens: &[u32],
    new_tokens: usize,
    sampling: Sampling,
    ids: usize,
    emit: &mut dyn FnMut(u32),
) -> Result<(), TrainError> {
    let Some(tensors) = &program.generation else { return Err(TrainError::Program { part: "generation" }) };
    let context = program.schedule.tensor(tensors.tokens.ids).len();
    let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
    let mut window: Vec<u32> = tokens[tokens.len().saturating_sub(context)..].to_vec();
    if window.is_empty() {
        window.push(0);
    }
    for _ in 0..new_tokens {
        if window.len() > context {
            window.drain(..window.len() - context / 2 - context % 2);
        }
        let position = window.len() - 1;
        let mut padded = window.clone();
        padded.resize(context, 0);
        executor.write(tensors.tokens.ids, &padded)?;
        executor.write(tensors.position, &[position as u32])?;
        executor.run(Phase::Generate).await?;
        let logits = executor.read(tensors.logits).await?;
        let id = choose(&logits[..logits.len().min(ids)], sampling.temperature, &mut rng)?;
        emit(id);
        window.push(id);
    }
    Ok(())
}

fn choose(logits: &[f32], temperature: f64, rng: &mut ChaCha8Rng) -> Result<u32, TrainError> {
    if let Some(bad) = logits.iter().find(|logit| !logit.is_finite()) {
        return Err(TrainError::Logits { got: *bad });
    }
    let likeliest = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(id, _)| id);
    if temperature == 0.0 {
        return Ok(likeliest as u32);
    }
    let top = f64::from(logits[likeliest]);
    let weights: Vec<f64> = logits.iter().map(|&logit| ((f64::from(logit) - top) / temperature).exp()).collect();
    // 53 random bits: a uniform f64 in [0, 1).
    let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut rest = uniform * weights.iter().sum::<f64>();
    for (id, weight) in weights.iter().enumerate() {
        rest -= weight;
        if rest < 0.0 {
            return Ok(id as u32);
        }
    }
    Ok(likeliest as u32)
}
