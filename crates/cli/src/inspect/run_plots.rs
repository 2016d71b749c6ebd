//! Plots of a run over its steps.

use evenkeel_train::inspection::{
    Role,
    run::{RunRecord, weight_pointer},
};

use crate::{
    curve::{Points, running_mean, window},
    plots::{Chart, Mark, ORDINARY, Panel, Series, category, faint, ordinal},
};

/// What is said of a run without rows of instruments.
pub(super) const WITHOUT_INSTRUMENTS: &str = "no rows of instruments in metrics.jsonl: weight_std, update_ratio and \
     residual_* are left out (the setting instruments.interval turns them on)";

/// All charts with the names of their files.
pub(super) fn charts(run: &RunRecord) -> Vec<(String, Chart)> {
    let mut charts = vec![("loss", loss(run)), ("learning_rate", learning_rate(run)), ("grad_norm", grad_norm(run))];
    let weights = run.measured_weights();
    if !weights.is_empty() {
        let std = ["standard deviation", "std"];
        let ratio = ["update / weight (Frobenius norms)", "update_ratio"];
        charts.push(("weight_std", by_matrix(run, &weights, "Standard deviation of the weights", std)));
        charts.push(("update_ratio", by_matrix(run, &weights, "Size of an update relative to the weights", ratio)));
    }
    if run.measured_places() > 0 {
        let residual = |what: &str, label: &str, field: &str| {
            by_place(run, &format!("{what} of the residual stream"), label, field)
        };
        charts.push(("residual_absmax", residual("Largest magnitude", "max |h|", "absmax")));
        charts.push(("residual_median", residual("Median magnitude", "median |h|", "median")));
        charts.push(("residual_kurtosis", residual("Kurtosis", "kurtosis (normal: 3)", "kurtosis")));
    }
    charts.into_iter().map(|(name, chart)| (name.to_owned(), chart)).collect()
}

fn series(run: &RunRecord, pointer: &str) -> Points {
    run.series(pointer).into_iter().map(|(step, value)| (step as f64, value)).collect()
}

fn loss(run: &RunRecord) -> Chart {
    let losses = series(run, "/loss");
    let window = window(losses.len());
    let mut lines = Vec::new();
    if window > 1 {
        lines.push(Series::line("training", faint(category(0)), losses.clone()));
        let name = format!("mean of {window} steps");
        lines.push(Series::line(name, category(0), running_mean(&losses, window)));
    } else {
        lines.push(Series::line("training", category(0), losses));
    }
    lines.push(Series::line("validation", category(1), series(run, "/valid_loss")).marked(Mark::Dots));
    Chart::of_lines("Loss", ["step", "loss (nats per token)"], false, lines)
}

fn learning_rate(run: &RunRecord) -> Chart {
    let line = Series::line("", ORDINARY, series(run, "/lr"));
    Chart::of_lines("Learning rate", ["step", "learning rate"], false, vec![line])
}

fn grad_norm(run: &RunRecord) -> Chart {
    let line = Series::line("", ORDINARY, series(run, "/grad_norm"));
    Chart::of_lines("Gradient norm before clipping", ["step", "L2 norm of the gradient"], true, vec![line])
}

/// A panel for each kind of matrix, with a line for each layer.
fn by_matrix(run: &RunRecord, weights: &[String], title: &str, [label, field]: [&str; 2]) -> Chart {
    let layers = weights.iter().filter_map(|name| Role::of(name).layer).max().unwrap_or(0);
    let mut panels: Vec<Panel> = Vec::new();
    for weight in weights {
        let role = Role::of(weight);
        let points = series(run, &weight_pointer(weight, field));
        let line = match role.layer {
            Some(layer) => Series::line(format!("layer {layer}"), ordinal(layer - 1, layers), points),
            None => Series::line("", ORDINARY, points),
        };
        match panels.iter_mut().find(|panel| panel.title == role.name) {
            Some(panel) => panel.series.push(line),
            None => panels.push(Panel { title: role.name.to_owned(), series: vec![line] }),
        }
    }
    Chart::of_panels(title, ["step", label], true, panels)
}

/// A line for each place in the residual stream.
fn by_place(run: &RunRecord, title: &str, label: &str, field: &str) -> Chart {
    let places = run.measured_places();
    let line = |place: usize| {
        let name = if place == 0 { "after embedding".to_owned() } else { format!("after layer {place}") };
        Series::line(name, ordinal(place, places), series(run, &format!("/residual_stream/{place}/{field}")))
    };
    Chart::of_lines(title, ["step", label], true, (0..places).map(line).collect())
}
