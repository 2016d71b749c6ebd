//! The rows of `metrics.jsonl`.

use serde::Serialize;

use crate::{Measurement, StepRecord};

/// A row of `metrics.jsonl` for a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepRow {
    /// From 1.
    pub step: u64,
    /// Mean over the step's targets before the update, in nats.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Before clipping.
    pub grad_norm: f64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Of this step, without compilation, evaluation and checkpoint.
    pub tokens_per_s: f64,
    /// What the loss was multiplied by, in mixed precision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Whether the update was skipped; there where it was.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Matrices that TVR rescaled, on the steps where it checked them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tvr_rescaled: Option<u64>,
    /// What the instruments saw, on the steps where they were read.
    #[serde(flatten)]
    pub measurement: Option<Measurement>,
}

impl StepRow {
    /// The row of a step with this learning rate and so many tokens.
    pub fn of(record: &StepRecord, lr: f64, tokens: u64) -> Self {
        Self {
            step: record.step,
            loss: record.loss,
            lr,
            grad_norm: record.grad_norm,
            tokens: record.step * tokens,
            tokens_per_s: tokens as f64 / record.time.as_secs_f64(),
            loss_scale: record.loss_scale,
            skipped: !record.applied,
            tvr_rescaled: record.tvr_rescaled,
            measurement: record.measurement.clone(),
        }
    }
}

/// A row of `metrics.jsonl` for an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationRow {
    /// Steps done.
    pub step: u64,
    /// Mean over the validation set, in nats.
    pub valid_loss: f64,
    /// The same in bits per byte of text, where the tokenizer is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_bpb: Option<f64>,
}
