//! The figures of the page: courses of all runs in one coordinate system, and for every run its layers over time.

use std::collections::BTreeMap;

use evenkeel_train::inspection::{Role, run::weight_pointer};
use maud::{Markup, html};

use super::{
    chart::{Chart, Ink, Line, Style},
    run::Run,
};
use crate::{
    curve::{Points, running_mean, window},
    plots::ordinals,
};

/// From so many steps on, the first twentieth may leave the chart of the loss at its top: the fall from the first loss
/// would press all that follows to the ground.
const MANY: usize = 100;
const STEP: &str = "step";

/// The loss of all runs, raw and smoothed, with the validation loss.
pub(super) fn loss(runs: &[Run]) -> Markup {
    let mut lines = Vec::new();
    let mut extent = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let ink = Ink::Run(index);
        let (losses, valid) = (run.series("/loss"), run.series("/valid_loss"));
        let settled = if losses.len() < MANY { 0 } else { losses.len() / 20 };
        extent.extend(losses[settled..].iter().chain(&valid).map(|(_, y)| *y));
        let window = window(losses.len());
        let of = |what: &str| if runs.len() > 1 { format!("{}, {what}", run.name) } else { what.to_owned() };
        if window > 1 {
            let mean = running_mean(&losses, window);
            lines.push(Line { name: of("each step"), ink, style: Style::Faint, points: losses });
            lines.push(Line { name: of(&format!("mean of {window} steps")), ink, style: Style::Plain, points: mean });
        } else {
            lines.push(Line { name: of("training"), ink, style: Style::Plain, points: losses });
        }
        let ink = if runs.len() > 1 { ink } else { Ink::Run(1) };
        lines.push(Line { name: of("validation"), ink, style: Style::Dots, points: valid });
    }
    let chart = Chart {
        title: "Loss".to_owned(),
        unit: "nats per token",
        x_label: STEP,
        log: false,
        lines,
        small: false,
        extent: Some(extent),
    };
    html! { (chart.figure().unwrap_or_else(|| html! { p.none { "No step yet." } })) }
}

/// Learning rate, gradient norm, throughput and whatever else every step or evaluation has.
pub(super) fn courses(runs: &[Run]) -> Markup {
    let figures = [
        ("/lr", "Learning rate", "", false),
        ("/grad_norm", "Gradient norm", "L2, before clipping", true),
        ("/tokens_per_s", "Throughput", "tokens per second", false),
        ("/valid_bpb", "Validation", "bits per byte", false),
        ("/tvr_rescaled", "Matrices rescaled by TVR", "per check", false),
    ];
    let charts = figures.into_iter().filter_map(|(pointer, title, unit, log)| {
        let line = |(index, run): (usize, &Run)| {
            let points = run.series(pointer);
            let style = if points.len() < MANY / 2 { Style::Dots } else { Style::Plain };
            Line { name: run.name.clone(), ink: Ink::Run(index), style, points }
        };
        let lines = runs.iter().enumerate().map(line).collect();
        small(title, unit, STEP, log, lines).figure()
    });
    grid(charts.collect())
}

/// Standard deviations over the layers, when they were measured first and last: a chart for each role of a matrix.
pub(super) fn std_by_layer(runs: &[Run]) -> Markup {
    let mut roles: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        let mut ends: BTreeMap<String, [Points; 2]> = BTreeMap::new();
        let mut steps = [0.0; 2];
        for weight in run.record.measured_weights() {
            let Role { name, layer: Some(layer) } = Role::of(&weight) else { continue };
            let series = run.series(&weight_pointer(&weight, "std"));
            let [Some(first), Some(last)] = [series.first(), series.last()] else { continue };
            let role = ends.entry(name.to_owned()).or_default();
            role[0].push((layer as f64, first.1));
            role[1].push((layer as f64, last.1));
            steps = [first.0, last.0];
        }
        for (role, [first, last]) in ends {
            let name = |step: f64| match runs.len() {
                1 => format!("step {step}"),
                _ => format!("{}, step {step}", run.name),
            };
            let lines = roles.entry(role).or_default();
            let ink = Ink::Run(index);
            if steps[0] < steps[1] {
                lines.push(Line { name: name(steps[0]), ink, style: Style::Dashed, points: first });
            }
            lines.push(Line { name: name(steps[1]), ink, style: Style::Dots, points: last });
        }
    }
    let chart = |(role, lines): (String, _)| small(&role, "standard deviation", "layer", true, lines).figure();
    grid(roles.into_iter().filter_map(chart).collect())
}

/// For one run: the standard deviation of every matrix over the steps, a line for each layer.
pub(super) fn std_over_time(run: &Run) -> Markup {
    let weights = run.record.measured_weights();
    let layers = weights.iter().filter_map(|name| Role::of(name).layer).max().unwrap_or(0);
    let mut roles: Vec<(String, Vec<Line>)> = Vec::new();
    for weight in &weights {
        let Role { name, layer } = Role::of(weight);
        let points = run.series(&weight_pointer(weight, "std"));
        let line = match layer {
            Some(layer) => {
                let ink = Ink::Pair(ordinals(layer - 1, layers));
                Line { name: format!("layer {layer}"), ink, style: Style::Plain, points }
            }
            None => Line { name: name.to_owned(), ink: Ink::Run(0), style: Style::Plain, points },
        };
        match roles.iter_mut().find(|(role, _)| role == name) {
            Some((_, lines)) => lines.push(line),
            None => roles.push((name.to_owned(), vec![line])),
        }
    }
    let chart = |(role, lines): (String, _)| small(&role, "standard deviation", STEP, true, lines).figure();
    grid(roles.into_iter().filter_map(chart).collect())
}

/// For one run: extreme activations after every layer.
pub(super) fn residual_stream(run: &Run) -> Markup {
    let places = run.record.measured_places();
    let figures = [
        ("absmax", "Largest magnitude", "max |h|"),
        ("median", "Median magnitude", "median |h|"),
        ("kurtosis", "Kurtosis", "3 for a normal distribution"),
    ];
    let charts = figures.into_iter().filter_map(|(field, title, unit)| {
        let line = |place: usize| Line {
            name: if place == 0 { "embedding".to_owned() } else { format!("layer {place}") },
            ink: Ink::Pair(ordinals(place, places)),
            style: Style::Plain,
            points: run.series(&format!("/residual_stream/{place}/{field}")),
        };
        small(title, unit, STEP, true, (0..places).map(line).collect()).figure()
    });
    grid(charts.collect())
}

fn small(title: &str, unit: &'static str, x_label: &'static str, log: bool, lines: Vec<Line>) -> Chart {
    Chart { title: title.to_owned(), unit, x_label, log, lines, small: true, extent: None }
}

fn grid(figures: Vec<Markup>) -> Markup {
    html! {
        @if figures.is_empty() {
            p.none { "No rows of instruments: the setting instruments.interval turns them on." }
        } @else {
            div.grid { @for figure in &figures { (figure) } }
        }
    }
}
