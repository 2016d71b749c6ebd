//! What a run came to, in a few lines.

use std::path::Path;

use evenkeel_train::{TrainError, inspection::run::RunRecord};
use serde_json::{Value, json};

use crate::output::count;

/// Names and values for a person.
pub(super) fn lines(folder: &Path, run: &RunRecord) -> Result<Vec<(String, String)>, TrainError> {
    let facts = Facts::of(run);
    let at = |(step, loss): (u64, f64)| format!("{loss:.4} (step {step})");
    let mut lines = vec![("run".to_owned(), folder.display().to_string())];
    let mut push = |name: &str, value: Option<String>| {
        lines.push((name.to_owned(), value.unwrap_or_else(|| "-".to_owned())));
    };
    push("steps done", Some(format!("{} of {}", facts.steps_done, run.settings.train.steps)));
    push("first loss", facts.first_loss.map(at));
    push("last loss", facts.last_loss.map(at));
    push("best validation loss", facts.best_valid_loss.map(at));
    push("median tokens/s", facts.tokens_per_s.map(count));
    push("newest checkpoint", run.newest.as_ref().map(|(_, path)| path.display().to_string()));
    let (firings, rescaled) = facts.tvr;
    push("TVR firings", Some(format!("{firings} ({rescaled} matrices rescaled)")));
    let preset = run.settings.model.preset.map(|preset| preset.name().to_owned());
    push("model.preset", preset);
    push("optimizer.lr", Some(run.settings.optimizer.lr.to_string()));
    let shown = ["model.preset", "optimizer.lr"];
    lines.extend(run.changed_settings()?.into_iter().filter(|(name, _)| !shown.contains(&name.as_str())));
    Ok(lines)
}

/// The same for a program; the settings are those that differ from the preset's and the defaults.
pub(super) fn json(folder: &Path, run: &RunRecord) -> Result<Value, TrainError> {
    let facts = Facts::of(run);
    let at = |point: Option<(u64, f64)>| point.map(|(step, loss)| json!({ "step": step, "loss": loss }));
    let changed: serde_json::Map<String, Value> = run
        .changed_settings()?
        .into_iter()
        .map(|(name, value)| (name, serde_json::from_str(&value).unwrap_or(Value::String(value))))
        .collect();
    Ok(json!({
        "folder": folder.display().to_string(),
        "steps_done": facts.steps_done,
        "steps": run.settings.train.steps,
        "first_loss": at(facts.first_loss),
        "last_loss": at(facts.last_loss),
        "best_valid_loss": at(facts.best_valid_loss),
        "median_tokens_per_s": facts.tokens_per_s,
        "tvr_firings": facts.tvr.0,
        "tvr_rescaled": facts.tvr.1,
        "changed_settings": changed,
    }))
}

struct Facts {
    steps_done: u64,
    first_loss: Option<(u64, f64)>,
    last_loss: Option<(u64, f64)>,
    best_valid_loss: Option<(u64, f64)>,
    tokens_per_s: Option<f64>,
    /// Steps on which it fired, and matrices that it rescaled in all.
    tvr: (usize, u64),
}

impl Facts {
    fn of(run: &RunRecord) -> Self {
        let losses = run.series("/loss");
        let firings = run.series("/tvr_rescaled");
        Self {
            steps_done: run.steps_done(),
            first_loss: losses.first().copied(),
            last_loss: losses.last().copied(),
            best_valid_loss: run.series("/valid_loss").into_iter().min_by(|a, b| a.1.total_cmp(&b.1)),
            tokens_per_s: median(run.series("/tokens_per_s").into_iter().map(|(_, rate)| rate).collect()),
            tvr: (firings.len(), firings.iter().map(|(_, count)| *count as u64).sum()),
        }
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}
