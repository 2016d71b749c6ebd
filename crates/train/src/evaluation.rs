//! Mean loss over windows of a corpus.

use evenkeel_data::Windows;
use evenkeel_schedule::Phase;

use crate::{Executor, Program, TrainError};

/// Result of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean over all targets, in nats.
    pub loss: f64,
    /// Targets counted.
    pub tokens: u64,
}

impl Evaluation {
    /// e to the loss.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

/// Evaluates the windows named by `chosen` with a program that was recorded with evaluation; `progress` hears of
/// (windows done, windows). Losses are summed on the host in f64, in the order of the windows.
///
/// # Errors
/// A program without evaluation, data that cannot be read, a device that is lost.
pub async fn evaluate(
    program: &Program,
    executor: &mut Executor,
    windows: &Windows,
    chosen: &[u64],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Evaluation, TrainError> {
    let Some(tensors) = &program.evaluation else { return Err(TrainError::Program { part: "evaluation" }) };
    let rows = program.schedule.tensor(tensors.tokens.ids).len();
    let time = windows.seq_len();
    let (mut tokens, mut targets) = (vec![0; rows], vec![0; rows]);
    let (mut total, mut counted) = (0.0, 0);
    for batch in chosen.chunks(rows / time) {
        // The rows behind a short last batch keep the tokens of the batch before: computed, not counted.
        for (i, &window) in batch.iter().enumerate() {
            let part = i * time..(i + 1) * time;
            windows.fill(window, &mut tokens[part.clone()], &mut targets[part])?;
        }
        executor.write(tensors.tokens.ids, &tokens)?;
        executor.write(tensors.loss.targets, &targets)?;
        executor.run(Phase::Evaluate).await?;
        let losses = executor.read(tensors.loss.losses).await?;
        total += losses[..batch.len() * time].iter().map(|&loss| f64::from(loss)).sum::<f64>();
        counted += (batch.len() * time) as u64;
        progress(counted / time as u64, chosen.len() as u64);
    }
    Ok(Evaluation { loss: total / counted as f64, tokens: counted })
}

/// At most `most` windows, evenly spread: the fixed set that a run is evaluated on.
pub fn spread(count: u64, most: u64) -> Vec<u64> {
    let chosen = count.min(most);
    (0..chosen).map(|i| (u128::from(i) * u128::from(count) / u128::from(chosen)) as u64).collect()
}
