//! Plots of a checkpoint: the standard deviations over the layers, the distributions of the weights, and a KAT's
//! rational functions.

use evenkeel_model::{
    ParameterKind,
    config::Arch,
    rational::{DENOMINATOR, NUMERATOR, Rational, RationalSet},
};
use evenkeel_train::inspection::{Model, Role, Statistics, Tensor, density};

use crate::{
    output::number,
    plots::{BLACK, Chart, GREY, Mark, ORDINARY, Panel, Series, category, ordinal},
};

/// Bins of a histogram.
const BINS: usize = 80;
/// A histogram reaches to the largest weight, but not beyond this many of the largest standard deviation.
const REACH: f64 = 5.0;
/// Most panels of a chart: of more layers, as many are shown at equal distances.
const PANELS: usize = 16;
/// Rational functions are drawn from minus this to this: beyond, what a norm lets through is rare.
const RATIONAL_REACH: f64 = 4.0;
const RATIONAL_POINTS: usize = 201;

/// All charts with the names of their files.
pub(super) fn charts(model: &Model) -> Vec<(String, Chart)> {
    let kinds = by_kind(&model.tensors);
    let inside: Vec<_> = kinds.iter().filter(|(_, matrices)| matrices[0].layer().is_some()).collect();
    let mut charts = vec![("std_by_layer".to_owned(), std_by_layer(&inside))];
    charts.extend(kinds.iter().map(|(kind, matrices)| (format!("histogram_{kind}"), histogram(kind, matrices))));
    if let Arch::Kat(rational) = &model.config.arch {
        charts.extend(rationals(rational, &model.tensors));
    }
    charts
}

/// `items`, or as many of them as a chart has panels, at equal distances.
fn shown<T>(items: &[T]) -> impl Iterator<Item = &T> {
    let shown = items.len().min(PANELS);
    (0..shown).map(move |panel| &items[panel * (items.len() - 1) / (shown - 1).max(1)])
}

/// The matrices by the name that they share, in the order of the parameters.
fn by_kind(tensors: &[Tensor]) -> Vec<(&str, Vec<&Tensor>)> {
    let mut kinds: Vec<(&str, Vec<&Tensor>)> = Vec::new();
    for tensor in tensors.iter().filter(|tensor| tensor.spec.is_matrix()) {
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
        let points: Vec<(f64, f64)> =
            matrices.iter().filter_map(|tensor| Some((tensor.layer()? as f64, tensor.statistics.std?))).collect();
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
    let panels = shown(matrices).map(|tensor| histogram_panel(tensor, reach)).collect();
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
    let title = match (tensor.layer(), std) {
        (Some(layer), Some(std)) => format!("layer {layer}, std {}", number(std)),
        (Some(layer), None) => format!("layer {layer}"),
        (None, _) => String::new(),
    };
    Panel {
        title,
        series: vec![
            Series::line("weights", ORDINARY, bins).marked(Mark::Bins),
            Series::line("normal", BLACK, normal.unwrap_or_default()),
        ],
    }
}

/// One rational activation of a layer.
struct Activation<'a> {
    /// The layer, from 1.
    layer: usize,
    /// What it was before training.
    initial: RationalSet,
    numerators: &'a [[f32; NUMERATOR]],
    denominators: &'a [[f32; DENOMINATOR]],
}

/// For each activation of a layer a chart with a panel for each layer.
fn rationals(rational: &Rational, tensors: &[Tensor]) -> Vec<(String, Chart)> {
    let mut activations: Vec<(&str, Vec<Activation<'_>>)> = Vec::new();
    // A numerator is followed by its denominator.
    for pair in tensors.windows(2) {
        let (ParameterKind::Numerator(initial), ParameterKind::Denominator(_)) = (pair[0].spec.kind, pair[1].spec.kind)
        else {
            continue;
        };
        let Some((module, _)) = pair[0].spec.name.rsplit_once('.') else { continue };
        let Role { name, layer } = Role::of(module);
        let activation = Activation {
            layer: layer.unwrap_or(0),
            initial,
            numerators: pair[0].values.as_chunks().0,
            denominators: pair[1].values.as_chunks().0,
        };
        match activations.iter_mut().find(|(other, _)| *other == name) {
            Some((_, layers)) => layers.push(activation),
            None => activations.push((name, vec![activation])),
        }
    }
    let chart = |(name, layers): (&str, Vec<Activation<'_>>)| {
        let panels = shown(&layers).map(|activation| activation.panel(rational)).collect();
        let title = format!("Rational functions of {name}");
        (format!("rational_{name}"), Chart::of_panels(&title, ["x", "F(x)"], false, panels))
    };
    activations.into_iter().map(chart).collect()
}

impl Activation<'_> {
    fn panel(&self, rational: &Rational) -> Panel {
        let points = |a: &[f64; NUMERATOR], b: &[f64; DENOMINATOR]| {
            let x = |point: usize| RATIONAL_REACH * (2.0 * point as f64 / (RATIONAL_POINTS - 1) as f64 - 1.0);
            (0..RATIONAL_POINTS).map(|point| (x(point), rational.form.evaluate(a, b, x(point)))).collect()
        };
        let before = points(&self.initial.numerator(), &self.initial.denominator());
        let mut series = vec![Series::line(format!("initial ({})", self.initial.name()), GREY, before)];
        for (group, b) in self.denominators.iter().enumerate() {
            let a = &self.numerators[group % self.numerators.len()];
            let line = points(&a.map(f64::from), &b.map(f64::from));
            let color = ordinal(group, self.denominators.len());
            series.push(Series::line(format!("group {}", group + 1), color, line));
        }
        Panel { title: format!("layer {}", self.layer), series }
    }
}
