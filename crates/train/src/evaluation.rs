//! Mean loss over windows of a corpus.

use evenkeel_data::Windows;
use evenkeel_schedule::Phase;

use crate::{Executor, Program, TrainError};

/// Windows of the fixed set that a run is evaluated on.
const FIXED_WINDOWS: u64 = 128;

/// Result of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean over all targets, in nats.
    pub loss: f64,
    /// Targets counted.
    pub tokens: u64,
    /// Mean over the targets of each window, in nats, in the order in which the windows were chosen.
    pub windows: Vec<f64>,
}

impl Evaluation {
    /// The loss in bits per byte, where the targets stand for `bytes` bytes of text; none for no bytes.
    pub fn bits_per_byte(&self, bytes: u64) -> Option<f64> {
        (bytes > 0).then(|| self.loss * self.tokens as f64 / bytes as f64 / std::f64::consts::LN_2)
    }

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
    let mut means = Vec::with_capacity(chosen.len());
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
        let mean = |rows: &[f32]| rows.iter().map(|&loss| f64::from(loss)).sum::<f64>() / time as f64;
        means.extend(losses[..batch.len() * time].chunks(time).map(mean));
        progress(means.len() as u64, chosen.len() as u64);
    }
    // All windows have equally many targets.
    let loss = means.iter().sum::<f64>() / means.len() as f64;
    Ok(Evaluation { loss, tokens: (means.len() * time) as u64, windows: means })
}

/// The fixed set that a run is evaluated on.
pub fn fixed_set(windows: &Windows) -> Vec<u64> {
    spread(windows.count(), FIXED_WINDOWS)
}

/// At most `most` windows, evenly spread.
fn spread(count: u64, most: u64) -> Vec<u64> {
    let chosen = count.min(most);
    (0..chosen).map(|i| (u128::from(i) * u128::from(count) / u128::from(chosen)) as u64).collect()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn the_fixed_set_is_spread_over_all_windows() {
        assert_eq!(spread(3, 4), [0, 1, 2]);
        assert_eq!(spread(4, 4), [0, 1, 2, 3]);
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(u64::MAX, 2), [0, u64::MAX / 2]);
    }
}
