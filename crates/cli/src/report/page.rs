//! The page: its sections in order, with style and script inside.

use std::time::SystemTime;

use evenkeel_train::TrainError;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{facts, figures, run::Run};

/// Samples that are shown without a click.
const SAMPLES: usize = 3;

/// The whole page.
///
/// # Errors
/// Settings that a run file cannot hold.
pub(super) fn page(runs: &[Run]) -> Result<String, TrainError> {
    let title = match runs {
        [run] => run.name.clone(),
        _ => format!("{} runs", runs.len()),
    };
    let sections = sections(runs)?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " \u{2013} Evenkeel" }
                // No request for an icon.
                link rel="icon" href="data:,";
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                a.skip href="#main" { "Skip to the figures" }
                header {
                    p.brand { "Evenkeel" }
                    h1 { (title) }
                    p.written { "Written " (humantime::format_rfc3339_seconds(SystemTime::now())) " by evenkeel " (env!("CARGO_PKG_VERSION")) }
                    nav aria-label="Sections" {
                        @for (id, name, _) in &sections { a href={ "#" (id) } { (name) } " " }
                    }
                }
                main #main {
                    @for fault in runs.iter().flat_map(|run| &run.faults) { p.fault role="note" { "Left out: " (fault) } }
                    @for (id, name, content) in &sections {
                        section #(id) aria-labelledby={ (id) "-title" } { h2 id={ (id) "-title" } { (name) } (content) }
                    }
                }
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    };
    Ok(page.into_string())
}

/// Anchor, name and content.
fn sections(runs: &[Run]) -> Result<Vec<(&'static str, &'static str, Markup)>, TrainError> {
    let mut sections = vec![
        ("summary", "Summary", facts::summary(runs)),
        ("loss", "Loss", figures::loss(runs)),
        ("course", "Course", figures::courses(runs)),
        ("settings", "Settings", facts::settings(runs)?),
        ("layers", "Standard deviation by layer", figures::std_by_layer(runs)),
        ("weights", "Standard deviation over time", by_run(runs, figures::std_over_time)),
        ("activations", "Extreme activations", by_run(runs, figures::residual_stream)),
    ];
    if runs.iter().any(|run| !run.samples.is_empty()) {
        sections.push(("samples", "Samples", by_run(runs, samples)));
    }
    Ok(sections)
}

/// The same for every run; of several, each under its name, the first unfolded.
fn by_run(runs: &[Run], content: impl Fn(&Run) -> Markup) -> Markup {
    html! {
        @if let [run] = runs { (content(run)) } @else {
            @for (index, run) in runs.iter().enumerate() {
                details.run open[index == 0] { summary { (run.name) } (content(run)) }
            }
        }
    }
}

/// What the model wrote, the newest first.
fn samples(run: &Run) -> Markup {
    let list = |samples: &mut dyn Iterator<Item = &evenkeel_train::inspection::run::Sample>| {
        html! {
            ol.samples reversed {
                @for sample in samples { li { p.step { "step " (sample.step) } blockquote { (sample.text.trim()) } } }
            }
        }
    };
    let newest = || run.samples.iter().rev();
    html! {
        @if run.samples.is_empty() { p.none { "No sample yet." } } @else {
            (list(&mut newest().take(SAMPLES)))
            @if run.samples.len() > SAMPLES {
                details { summary { "Earlier samples" } (list(&mut newest().skip(SAMPLES))) }
            }
        }
    }
}
