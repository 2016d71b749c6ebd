//! What the runs came to, and their settings, as tables.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_train::TrainError;
use maud::{Markup, html};

use super::run::Run;
use crate::output::{count, number};

/// Name and value for each run.
type Row = (&'static str, Vec<String>);

/// What came of the runs: a row for each fact.
pub(super) fn summary(runs: &[Run]) -> Markup {
    let dash = || "\u{2013}".to_owned();
    let row = |name, value: &dyn Fn(&Run) -> Option<String>| -> Row {
        (name, runs.iter().map(|run| value(run).unwrap_or_else(dash)).collect())
    };
    let at = |(step, loss): (u64, f64)| format!("{} at step {step}", number(loss));
    let rows = [
        row("State", &|run| Some(state(run))),
        row("Last loss", &|run| run.record.series("/loss").last().copied().map(at)),
        row("Best validation loss", &|run| {
            run.record.series("/valid_loss").into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).map(at)
        }),
        row("Tokens", &|run| run.record.series("/tokens").last().map(|(_, tokens)| count(*tokens))),
        row("Median throughput", &|run| {
            let mut rates: Vec<f64> = run.record.series("/tokens_per_s").into_iter().map(|(_, rate)| rate).collect();
            rates.sort_by(f64::total_cmp);
            rates.get(rates.len() / 2).map(|rate| format!("{} tokens/s", count(*rate)))
        }),
        row("Time in steps", &time_in_steps),
        row("Parameters", &|run| run.parameters.map(|parameters| count(parameters as f64))),
        row("Device", &|run| run.trainer.as_ref().map(|trainer| trainer.adapter.clone())),
        row("Driver", &|run| run.trainer.as_ref().map(|trainer| format!("{}, {}", trainer.driver, trainer.backend))),
        row("Newest checkpoint", &|run| run.record.newest.as_ref().map(|(_, path)| path.display().to_string())),
    ];
    table(runs, "What the runs came to", rows.into_iter().map(|(name, values)| (name.to_owned(), values, false)))
}

/// `finished`, or how far it is and when it was heard of last.
fn state(run: &Run) -> String {
    let (done, steps) = (run.record.steps_done(), run.record.settings.train.steps);
    if done >= steps {
        return format!("finished, {steps} steps");
    }
    let age = run.age.map(|age| format!(", last row {} ago", rough(age))).unwrap_or_default();
    format!("step {done} of {steps}{age}")
}

/// The tokens of each step over their rate.
fn time_in_steps(run: &Run) -> Option<String> {
    let rates: BTreeMap<u64, f64> = run.record.series("/tokens_per_s").into_iter().collect();
    let (mut before, mut seconds) = (0.0, 0.0);
    for (step, tokens) in run.record.series("/tokens") {
        seconds += rates.get(&step).filter(|rate| **rate > 0.0).map_or(0.0, |rate| (tokens - before) / rate);
        before = tokens;
    }
    (seconds > 0.0).then(|| rough(Duration::from_secs_f64(seconds.min(1e12))))
}

/// In its two largest units.
fn rough(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The settings in which a run differs from the defaults, and all others behind a fold.
///
/// # Errors
/// Settings that a run file cannot hold.
pub(super) fn settings(runs: &[Run]) -> Result<Markup, TrainError> {
    let all = runs.iter().map(|run| run.record.settings.entries()).collect::<Result<Vec<_>, _>>()?;
    let mut changed = Vec::new();
    for run in runs {
        let names = run.record.changed_settings()?.into_iter().map(|(name, _)| name);
        changed.extend(names.chain(["model.preset", "optimizer.lr", "train.steps", "train.seed"].map(str::to_owned)));
    }
    let mut names: Vec<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    names.sort();
    names.dedup();
    let row = |name: &&String| {
        let values: Vec<String> =
            all.iter().map(|run| run.get(*name).cloned().unwrap_or_else(|| "\u{2013}".to_owned())).collect();
        let differs = values.iter().any(|value| *value != values[0]);
        ((*name).clone(), values, differs)
    };
    let (mut shown, rest): (Vec<_>, Vec<_>) =
        names.iter().map(row).partition(|(name, _, differs)| *differs || changed.contains(name));
    shown.sort_by_key(|(_, _, differs)| !differs);
    Ok(html! {
        (table(runs, "Settings", shown.into_iter()))
        @if !rest.is_empty() {
            details { summary { "All other settings" } (table(runs, "All other settings", rest.into_iter())) }
        }
    })
}

/// A row for each name, a column for each run; rows where runs differ are marked.
fn table(runs: &[Run], caption: &str, rows: impl Iterator<Item = (String, Vec<String>, bool)>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table.facts {
                caption.hidden { (caption) }
                @if runs.len() > 1 {
                    thead {
                        tr {
                            td {}
                            @for (index, run) in runs.iter().enumerate() {
                                th scope="col" { span.key.plain style={ "--light:var(--run" (index % 7) ");--dark:var(--run" (index % 7) ")" } {} (run.name) }
                            }
                        }
                    }
                }
                tbody {
                    @for (name, values, differs) in rows {
                        tr.differs[differs] {
                            th scope="row" { (name) @if differs { span.mark title="The runs differ" { " \u{2260}" } } }
                            @for value in values { td { (value) } }
                        }
                    }
                }
            }
        }
    }
}
