//! Plots of a checkpoint: the standard deviations over the layers, and the distributions of the weights.

use evenkeel_train::inspection::{Role, Statistics, Tensor, density};

use crate::plots::{Chart, Color, GREY, Mark, ORDINARY, Panel, Series, category};

/// Bins of a histogram.
const BINS: usize = 80;
/// A histogram reaches to the largest weight, but not beyond this many of the largest standard deviation.
const REACH: f64 = 5.0;
/// Most panels of a chart: of more layers, as many are shown at equal distances.
const PANELS: usize = 16;

/// All charts with the names of their files.
pub(super) fn charts(tensors: &[Tensor]) -> Vec<(String, Chart)> {
    let kinds = by_kind(tensors);
    let inside: Vec<_> = kinds.iter().filter(|(_, matrices)| matrices[0].matrix_layer().is_some()).collect();
    let mut charts = vec![("std_by_layer".to_owned(), std_by_layer(&inside))];
    charts.extend(kinds.iter().map(|(kind, matrices)| (format!("histogram_{kind}"), histogram(kind, matrices))));
    charts
}

/// The matrices by the name that they share, in the order of the parameters.
fn by_kind(tensors: &[Tensor]) -> Vec<(&str, Vec<&Tensor>)> {
    let mut kinds: Vec<(&str, Vec<&Tensor>)> = Vec::new();
    for tensor in tensors.iter().filter(|tensor| tensor.is_matrix()) {
        let kind = Role::of(&tensor.spec.name).name;
        match kinds.iter_mut().find(|(name, _)| *name == kind) {
            Some((_, matrices)) => matrices.push(tensor),
            None => kinds.push((kind, vec![tensor])),
        }
    }
    kinds
}

fn std_by_layer(kinds: &[&(&str, Vec<&Tensor>)]) -> Chart {
    let (mut laws, mut lines) = (Vec::new(), Vec::new());
    for (index, (kind, matrices)) in kinds.iter().enumerate() {
        let color = category(index);
        let points: Vec<(f64, f64)> = matrices
            .iter()
            .filter_map(|tensor| Some((tensor.matrix_layer()? as f64, tensor.statistics.std?)))
            .collect();
        if let Some(&(_, first)) = points.first() {
            let law = points.iter().map(|&(layer, _)| (layer, first / layer.sqrt())).collect();
            laws.push(Series::line("", color, law).marked(Mark::Dashed));
        }
        lines.push(Series::line(*kind, color, points).marked(Mark::Dots));
    }
    // An entry of the legend for all the laws, each of which has its matrix's colour.
    let entry = Series::line("LIR: std\u{2081} / \u{221a}layer", GREY, Vec::new()).marked(Mark::Dashed);
    let series = laws.into_iter().chain(lines).chain([entry]).collect();
    Chart::of_lines("Standard deviation of the weights by layer", ["decoder layer", "standard deviation"], true, series)
}

/// A panel for each layer, against the normal distribution of the same mean and standard deviation.
fn histogram(kind: &str, matrices: &[&Tensor]) -> Chart {
    let stds = matrices.iter().filter_map(|tensor| tensor.statistics.std);
    let widest = REACH * stds.fold(0.0, f64::max);
    let largest = matrices.iter().map(|tensor| tensor.statistics.absmax).filter(|absmax| absmax.is_finite());
    let reach = match largest.fold(0.0, f64::max) {
        largest if widest > 0.0 => largest.min(widest),
        0.0 => 1.0,
        largest => largest,
    };
    let shown = matrices.len().min(PANELS);
    let chosen = (0..shown).map(|panel| matrices[panel * (matrices.len() - 1) / (shown - 1).max(1)]);
    let panels = chosen.map(|tensor| histogram_panel(tensor, reach)).collect();
    Chart::of_panels(&format!("Weights of {kind}"), ["weight", "density"], false, panels)
}

fn histogram_panel(tensor: &Tensor, reach: f64) -> Panel {
    let Statistics { mean, std, .. } = tensor.statistics;
    let edge = |bin: usize| reach * (2.0 * bin as f64 / BINS as f64 - 1.0);
    let heights = density(&tensor.values, reach, BINS).into_iter().chain([0.0]);
    let bins = heights.enumerate().map(|(bin, height)| (edge(bin), height)).collect();
    let normal = std.filter(|std| *std > 0.0).map(|std| {
        let at = |x: f64| (-0.5 * ((x - mean) / std).powi(2)).exp() / (std * std::f64::consts::TAU.sqrt());
        (0..=BINS).map(|bin| (edge(bin), at(edge(bin)))).collect()
    });
    let title = match (tensor.matrix_layer(), std) {
        (Some(layer), Some(std)) => format!("layer {layer}, std {}", super::table::number(std)),
        (Some(layer), None) => format!("layer {layer}"),
        (None, _) => String::new(),
    };
    Panel {
        title,
        series: vec![
            Series::line("weights", ORDINARY, bins).marked(Mark::Bins),
            Series::line("normal", Color::BLACK, normal.unwrap_or_default()),
        ],
    }
}
