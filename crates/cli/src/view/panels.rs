//! Charts of braille dots, and the table of standard deviations.

use ratatui::{
    Frame,
    layout::Rect,
    style::Color,
    symbols::Marker,
    text::{Line, Span},
    widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph},
};

use super::{draw::Theme, state::State};
use crate::{
    curve::{Curve, Points, running_mean, window},
    output::count,
};

/// Eighths of a cell.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// From so many points on, the first twentieth may leave a chart at its top: the fall from the first loss would press
/// all that follows to the ground.
const MANY: usize = 100;
const VALIDATION: char = '◆';

/// The losses over the steps.
pub(super) fn losses(frame: &mut Frame<'_>, state: &State, area: Rect, theme: Theme) {
    let (all, means, valid) = (state.loss.extremes(), state.loss.means(), state.valid_loss.means());
    let window = window(means.len());
    let (raw, line) = (theme.of(Color::DarkGray), theme.of(Color::Cyan));
    let dots = theme.of(Color::Magenta);
    let smooth = running_mean(&means, window);
    let mut title = vec![Span::styled("loss", theme.strong())];
    let mut data = Vec::new();
    if window > 1 || state.loss.length() > 1 {
        title.push(Span::styled("  ⠒⠢ steps", raw));
        title.push(Span::styled(format!("  ── mean of {}", window as u64 * state.loss.length()), line));
        data.push(Dataset::default().marker(Marker::Braille).style(raw).data(&all));
    }
    data.push(Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(line).data(&smooth));
    if !valid.is_empty() {
        title.push(Span::styled(format!("  {VALIDATION} validation"), dots));
        data.push(Dataset::default().marker(Marker::Custom(VALIDATION)).style(dots).data(&valid));
    }
    let settled = &all[if means.len() < MANY { 0 } else { all.len() / 20 }..];
    let values = settled.iter().chain(&valid).map(|(_, y)| *y);
    chart(frame, data, &means, Scale::of(values, area.height), area, theme.block(title), theme);
}

/// A curve of its own.
pub(super) fn small(frame: &mut Frame<'_>, name: &str, curve: &Curve, area: Rect, theme: Theme) {
    let means = curve.means();
    let scale = Scale::of(means.iter().map(|(_, y)| *y), area.height);
    let line = Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line);
    let data = vec![line.style(theme.of(Color::Cyan)).data(&means)];
    chart(frame, data, &means, scale, area, theme.block(vec![Span::styled(name, theme.strong())]), theme);
}

fn chart(
    frame: &mut Frame<'_>,
    data: Vec<Dataset<'_>>,
    points: &Points,
    scale: Scale,
    area: Rect,
    block: Block<'_>,
    theme: Theme,
) {
    let [Some(first), Some(last)] = [points.first(), points.last()] else {
        let text = Line::styled("no step yet", theme.quiet()).centered();
        return frame.render_widget(Paragraph::new(text).block(block), area);
    };
    let steps = [first.0, last.0.max(first.0 + 1.0)];
    let labels = [steps[0], f64::midpoint(steps[0], steps[1]), steps[1]].map(|step| step.round().to_string());
    let axis = |bounds, labels| Axis::default().bounds(bounds).labels::<Vec<String>>(labels).style(theme.quiet());
    let chart = Chart::new(data).block(block);
    let chart = chart.x_axis(axis(steps, labels.to_vec())).y_axis(axis(scale.bounds, scale.labels));
    frame.render_widget(chart.legend_position(None), area);
}

/// A vertical axis whose ends and labels are round.
struct Scale {
    bounds: [f64; 2],
    labels: Vec<String>,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>, height: u16) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let free = if high > low { 0.0 } else { (0.1 * high.abs()).max(1e-9) };
        let (low, high) = (low - free, high + free);
        let raw = (high - low) / f64::from((height / 3).clamp(2, 6));
        let power = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|step| *step >= raw);
        let step = step.unwrap_or(10.0 * power);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        let largest = (first * step).abs().max((last * step).abs());
        let label = |index: usize| {
            let value = (first + index as f64) * step;
            match largest {
                _ if value == 0.0 => "0".to_owned(),
                1000.0.. => count(value),
                0.01.. => format!("{value:.decimals$}"),
                _ => format!("{value:.0e}"),
            }
        };
        Self { bounds: [first * step, last * step], labels: (0..=(last - first) as usize).map(label).collect() }
    }
}

/// The standard deviations of the matrices: a bar for every layer, on one scale from zero, their mean, and its change.
pub(super) fn matrices(frame: &mut Frame<'_>, state: &State, area: Rect, theme: Theme) {
    let block = theme.block(vec![Span::styled("std of the matrices", theme.strong())]);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    if state.matrices.is_empty() {
        let text = match state.interval {
            0 => "instruments.interval is 0".to_owned(),
            interval => format!("measured at step {}", (state.done / interval + 1) * interval),
        };
        return frame.render_widget(Line::styled(text, theme.quiet()).centered(), inner);
    }
    let (names, figures) = (13, 15);
    let room = usize::from(inner.width).saturating_sub(names + figures);
    let highest = state.matrices.iter().flat_map(|matrices| &matrices.std).copied().fold(0.0, f64::max);
    let heading = format!("{:<names$}{:<room$}{:>8}{:>7}", "", "by layer", "mean", "change");
    let mut lines = vec![Line::styled(heading, theme.quiet())];
    for matrices in &state.matrices {
        let stds = &matrices.std;
        let shown = stds.len().min(room);
        let bar = |place: usize| {
            let std = stds[place * (stds.len() - 1) / (shown - 1).max(1)];
            BARS[((std / highest * 8.0).ceil() as usize).clamp(1, 8) - 1]
        };
        let bars: String = (0..shown).map(bar).collect();
        let mean = stds.iter().sum::<f64>() / stds.len() as f64;
        lines.push(Line::from(vec![
            Span::raw(format!("{:<names$.12}", matrices.role)),
            Span::styled(format!("{bars:<room$}"), theme.of(Color::Cyan)),
            Span::styled(format!("{mean:>8.4}"), theme.strong()),
            Span::styled(change(matrices.change()), theme.quiet()),
        ]));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

/// A relative change in seven columns: in percent, from ten times on as a factor.
fn change(change: f64) -> String {
    match change {
        9.0.. => format!("{:>5.0} x", (1.0 + change).min(9999.0)),
        _ => format!("{:>+5.0} %", 100.0 * change),
    }
}

#[cfg(test)]
mod tests {
    use super::change;

    #[test]
    fn a_change_keeps_to_its_columns() {
        for (by, shown) in [
            (-0.5, "  -50 %"),
            (0.031, "   +3 %"),
            (8.99, " +899 %"),
            (9.0, "   10 x"),
            (1e9, " 9999 x"),
            (f64::INFINITY, " 9999 x"),
        ] {
            assert_eq!(change(by), shown);
        }
    }
}
