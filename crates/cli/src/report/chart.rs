//! A chart of lines as HTML: the lines in an SVG that stretches with the page, the text around it in HTML, so that it
//! keeps its size on a narrow screen. What the lines show stands in a table below.

use maud::{Markup, html};

use crate::{
    curve::Points,
    output::number,
    plots::{Axis, Color, label, thinned},
};

/// Extent of the SVG's own coordinates in both directions.
const EXTENT: f64 = 1000.0;
/// A line of more points than these is thinned out.
const MOST_POINTS: usize = 800;
/// Ticks of the axes, at most about.
const TICKS: [usize; 2] = [5, 6];
/// Rows of the table below a chart.
const ROWS: usize = 12;

pub(super) struct Chart {
    pub(super) title: String,
    /// What the vertical axis shows, with its unit.
    pub(super) unit: &'static str,
    pub(super) x_label: &'static str,
    pub(super) log: bool,
    /// From the lowest to the topmost.
    pub(super) lines: Vec<Line>,
    /// Whether its height is that of one among several.
    pub(super) small: bool,
    /// What the vertical axis reaches over; none: all lines.
    pub(super) extent: Option<Vec<f64>>,
}

pub(super) struct Line {
    /// Its entry in the legend; none if it is empty.
    pub(super) name: String,
    pub(super) ink: Ink,
    pub(super) style: Style,
    pub(super) points: Points,
}

/// A colour: one for light pages and one for dark ones.
#[derive(Clone, Copy)]
pub(super) enum Ink {
    /// Of a run, by its place among the runs.
    Run(usize),
    /// On white and on black.
    Pair([Color; 2]),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    /// Behind a line of the same colour; neither in the legend nor in the table.
    Faint,
    Dashed,
    /// Dots, joined by a thin line.
    Dots,
}

impl Style {
    fn class(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Faint => "faint",
            Self::Dashed => "dashed",
            Self::Dots => "dots",
        }
    }
}

/// The number of colours that runs have in the style sheet.
const RUN_COLORS: usize = 7;

impl Ink {
    fn css(self) -> String {
        let hex = |Color(red, green, blue): Color| format!("#{red:02x}{green:02x}{blue:02x}");
        match self {
            Self::Run(index) => format!("--light:var(--run{0});--dark:var(--run{0})", index % RUN_COLORS),
            Self::Pair([light, dark]) => format!("--light:{};--dark:{}", hex(light), hex(dark)),
        }
    }
}

impl Chart {
    /// A figure; nothing if no line has a point.
    pub(super) fn figure(&self) -> Option<Markup> {
        let drawable = |line: &Line| -> Points {
            let shown = |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (!self.log || y > 0.0);
            line.points.iter().copied().filter(shown).collect()
        };
        let lines: Vec<(&Line, Points)> = self.lines.iter().map(|line| (line, drawable(line))).collect();
        let lines: Vec<_> = lines.into_iter().filter(|(_, points)| !points.is_empty()).collect();
        if lines.is_empty() {
            return None;
        }
        let points = || lines.iter().flat_map(|(_, points)| points);
        let x = Axis::of(points().map(|(x, _)| *x), false);
        let y = match &self.extent {
            Some(extent) => Axis::of(extent.iter().copied(), self.log),
            None => Axis::of(points().map(|(_, y)| *y), self.log),
        };
        Some(html! {
            figure class=(if self.small { "chart small" } else { "chart" }) {
                figcaption { h3 { (self.title) } p.unit { (self.unit) } (self.legend()) }
                (plot(&self.title, &lines, [x, y], self.log))
                p.x-label { (self.x_label) }
                (table(&self.title, self.x_label, &lines))
            }
        })
    }

    fn legend(&self) -> Markup {
        let named: Vec<&Line> =
            self.lines.iter().filter(|line| !line.name.is_empty() && line.style != Style::Faint).collect();
        html! {
            @if named.len() > 1 {
                ul.legend {
                    @for line in named {
                        li { span class={ "key " (line.style.class()) } style=(line.ink.css()) {} (line.name) }
                    }
                }
            }
        }
    }
}

fn plot(title: &str, lines: &[(&Line, Points)], [x, y]: [Axis; 2], log: bool) -> Markup {
    let across = |value: f64| EXTENT * x.place(value);
    let up = |value: f64| EXTENT * (1.0 - y.place(value));
    let ends = [x.ends(), y.ends()].map(|[low, high]| format!("{low:e} {high:e}"));
    html! {
        div.plot {
            div.y-ticks aria-hidden="true" {
                @for tick in y.ticks(TICKS[1]) {
                    span style={ "top:" (percent(up(tick))) } { (label(tick)) }
                }
            }
            div.area data-x=(ends[0]) data-y=(ends[1]) data-log[log] {
                svg viewBox={ "0 0 " (EXTENT) " " (EXTENT) } preserveAspectRatio="none" role="img"
                    aria-label=(description(title, lines)) {
                    @for tick in y.ticks(TICKS[1]) {
                        path.grid d={ "M0 " (round(up(tick))) "H" (EXTENT) } {}
                    }
                    @for (line, points) in lines {
                        @let shown = thinned(points.clone(), MOST_POINTS);
                        @let path: String = shown.iter().map(|&(x, y)| format!("{} {} ", round(across(x)), round(up(y)))).collect();
                        @let name = if line.style == Style::Faint { None } else { Some(&line.name) };
                        @if shown.len() > 1 {
                            polyline class={ "line " (line.style.class()) } style=(line.ink.css()) data-name=[name]
                                points=(path.trim_end()) {}
                        }
                        @if line.style == Style::Dots || shown.len() == 1 {
                            // A line of no length with round ends is a dot that does not stretch with the picture.
                            path.dot style=(line.ink.css()) data-name=[name.filter(|_| shown.len() == 1)]
                                d=(shown.iter().map(|&(x, y)| format!("M{} {}h0", round(across(x)), round(up(y)))).collect::<String>()) {}
                        }
                    }
                }
            }
            div.x-ticks aria-hidden="true" {
                @for tick in x.ticks(TICKS[0]) {
                    span style={ "left:" (percent(across(tick))) } { (label(tick)) }
                }
            }
        }
    }
}

/// For who cannot see the picture: where every line begins and ends.
fn description(title: &str, lines: &[(&Line, Points)]) -> String {
    let mut text = title.to_owned();
    for (line, points) in lines.iter().filter(|(line, _)| line.style != Style::Faint) {
        if let [Some(first), Some(last)] = [points.first(), points.last()] {
            let name = if line.name.is_empty() { "the line" } else { line.name.as_str() };
            text += &format!(
                "; {name}: {} at {}, {} at {}",
                number(first.1),
                label(first.0),
                number(last.1),
                label(last.0)
            );
        }
    }
    text
}

/// A part of the points of every line, by x.
fn table(title: &str, x_label: &str, lines: &[(&Line, Points)]) -> Markup {
    let lines: Vec<_> = lines.iter().filter(|(line, _)| line.style != Style::Faint).collect();
    let mut all: Vec<f64> = lines.iter().flat_map(|(_, points)| points.iter().map(|(x, _)| *x)).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    let count = all.len().min(ROWS);
    let rows = (0..count).map(|row| all[row * (all.len() - 1) / (count - 1).max(1)]);
    let value = |points: &Points, x: f64| {
        points.iter().find(|(other, _)| *other == x).map_or_else(|| "\u{2013}".to_owned(), |(_, y)| number(*y))
    };
    html! {
        details {
            summary { "Numbers" span.hidden { " of " (title) } }
            div.scroll tabindex="0" role="region" aria-label={ "Numbers of " (title) } {
                table {
                    thead {
                        tr {
                            th scope="col" { (x_label) }
                            @for (line, _) in &lines { th scope="col" { (if line.name.is_empty() { title } else { line.name.as_str() }) } }
                        }
                    }
                    tbody {
                        @for x in rows {
                            tr {
                                th scope="row" { (label(x)) }
                                @for (_, points) in &lines { td { (value(points, x)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A coordinate to a tenth.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn percent(value: f64) -> String {
    format!("{:.2}%", 100.0 * value / EXTENT)
}
