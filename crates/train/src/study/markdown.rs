//! A report as Markdown.

use super::{ArmReport, Report};

const NONE: &str = "-";

/// The whole report.
pub(super) fn report(report: &Report) -> String {
    let mut text = format!("# {}\n\n{}\n", report.name, arms(report));
    text += &remarks(report);
    text += &format!("\n## Settings\n\n{}", settings(report));
    text += &format!("\n## Final standard deviation of each matrix\n\nMeans over the seeds.\n\n{}", matrices(report));
    if report.arms.iter().any(|arm| !arm.residual_stream.is_empty()) {
        text += &format!(
            "\n## Residual stream at the last step\n\nLargest magnitude / median magnitude / kurtosis, means over the \
             seeds.\n\n{}",
            residual_stream(report)
        );
    }
    text
}

/// The table of arms.
pub(super) fn arms(report: &Report) -> String {
    let percent = report.confidence * 100.0;
    let head = vec![
        "arm".to_owned(),
        "seeds".to_owned(),
        "final validation loss".to_owned(),
        format!("difference [{percent:.0} % interval]"),
        "difference by seed".to_owned(),
        "std of matrices".to_owned(),
        "max residual".to_owned(),
        "tokens/s".to_owned(),
    ];
    table(head, report.arms.iter().enumerate().map(|(i, arm)| row(arm, i == 0)))
}

fn row(arm: &ArmReport, first: bool) -> Vec<String> {
    let loss = match &arm.loss {
        Some(loss) => match loss.standard_deviation {
            Some(deviation) => format!("{:.4} ± {deviation:.4}", loss.mean),
            None => format!("{:.4}", loss.mean),
        },
        None => format!("{} diverged", arm.diverged.len()),
    };
    let (difference, by_seed) = match &arm.difference {
        Some(difference) => {
            let [low, high] = difference.interval;
            let by_seed: Vec<_> = difference.by_seed.iter().map(|value| format!("{value:+.4}")).collect();
            (format!("{:+.4} [{low:+.4}, {high:+.4}]", difference.mean), by_seed.join(", "))
        }
        None if first => ("the base".to_owned(), NONE.to_owned()),
        None => (NONE.to_owned(), NONE.to_owned()),
    };
    vec![
        arm.name.clone(),
        arm.validation_loss.len().to_string(),
        loss,
        difference,
        by_seed,
        optional(arm.matrix_std, 5),
        optional(arm.residual_absmax, 2),
        format!("{:.0}", arm.tokens_per_s),
    ]
}

/// What the table's figures are, and what they are not.
fn remarks(report: &Report) -> String {
    let seeds = report.seeds.len();
    let mut text = format!(
        "Loss in nats per token over {} windows, mean ± standard deviation (N - 1) over {}. ",
        report.windows,
        plural(seeds, "seed"),
    );
    text +=
        &format!("Interval: paired bootstrap over seeds and windows, {} resamples, percentiles. ", report.resamples);
    text += &match seeds {
        1 => "With one seed it covers the windows alone and says nothing of other seeds.\n".to_owned(),
        2..10 => format!(
            "With {seeds} seeds it is too narrow: resampled seeds spread {:.2} times as far as their unbiased estimate, and \
             so few cannot show their tails. Trust a difference that every seed shows.\n",
            ((seeds - 1) as f64 / seeds as f64).sqrt(),
        ),
        _ => "\n".to_owned(),
    };
    for arm in &report.arms {
        for reason in &arm.diverged {
            text += &format!("\n{}, {reason}: diverged.\n", arm.name);
        }
    }
    text += &format!(
        "\n{} of steps on {}; evenkeel {}.\n",
        duration(report.seconds),
        report.devices.join(" and "),
        report.engine_versions.join(" and "),
    );
    text
}

fn settings(report: &Report) -> String {
    let mut keys: Vec<&String> = report.arms.iter().flat_map(|arm| arm.settings.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut text = String::new();
    if !keys.is_empty() {
        let rows = keys.iter().map(|&key| {
            let of = |arm: &ArmReport| arm.settings.get(key).cloned().unwrap_or_else(|| NONE.to_owned());
            std::iter::once(key.clone()).chain(report.arms.iter().map(of)).collect()
        });
        text += &format!("{}\n", table(names(report, "key"), rows));
    }
    let common: Vec<_> = report.settings.iter().map(|(key, value)| format!("`{key} = {value}`")).collect();
    text + &format!("Common to all arms, seeds {:?}: {}.\n", report.seeds, common.join(", "))
}

/// Rows are named by the arm that has most of them; arms of other models have gaps.
fn matrices(report: &Report) -> String {
    let mut rows: Vec<&str> = Vec::new();
    for matrix in report.arms.iter().flat_map(|arm| &arm.matrices) {
        if !rows.contains(&matrix.name.as_str()) {
            rows.push(&matrix.name);
        }
    }
    let row = |name: &str| {
        let of = |arm: &ArmReport| {
            let found = arm.matrices.iter().find(|matrix| matrix.name == name);
            optional(found.map(|matrix| matrix.std), 5)
        };
        std::iter::once(name.to_owned()).chain(report.arms.iter().map(of)).collect()
    };
    table(names(report, "matrix"), rows.into_iter().map(row))
}

fn residual_stream(report: &Report) -> String {
    let depths = report.arms.iter().map(|arm| arm.residual_stream.len()).max().unwrap_or(0);
    let row = |depth: usize| {
        let name = if depth == 0 { "embedding".to_owned() } else { format!("layer {depth}") };
        let of = |arm: &ArmReport| match arm.residual_stream.get(depth) {
            Some(at) => format!("{:.2} / {:.3} / {:.2}", at.absmax, at.median, at.kurtosis),
            None => NONE.to_owned(),
        };
        std::iter::once(name).chain(report.arms.iter().map(of)).collect()
    };
    table(names(report, "after"), (0..depths).map(row))
}

fn names(report: &Report, first: &str) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(report.arms.iter().map(|arm| arm.name.clone())).collect()
}

/// A table with its columns aligned.
fn table(head: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let escaped = |row: Vec<String>| row.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).map(escaped).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        text += &format!("| {} |\n", cells.join(" | "));
        if i == 0 {
            let rules: Vec<_> = widths.iter().map(|&width| "-".repeat(width + 2)).collect();
            text += &format!("|{}|\n", rules.join("|"));
        }
    }
    text
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.digits$}"))
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        return format!("{seconds:.1} s");
    }
    let minutes = (seconds / 60.0).round() as u64;
    if minutes < 120 { format!("{minutes} min") } else { format!("{} h {} min", minutes / 60, minutes % 60) }
}
