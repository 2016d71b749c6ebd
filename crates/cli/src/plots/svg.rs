//! The drawing of a chart: where things go, and their SVG.

use super::{Chart, Mark, Panel, Series, axis::Axis};

const SINGLE: [f64; 2] = [800.0, 500.0];
/// Width of a chart of several panels; its height follows from their number.
const GRID_WIDTH: f64 = 960.0;
/// Height of a panel of several, as a share of its width.
const PANEL_ASPECT: f64 = 0.66;
const MARGIN: f64 = 20.0;
const TITLE: f64 = 46.0;
const PANEL_TITLE: f64 = 20.0;
const GAP: f64 = 16.0;
/// Room for tick labels and axis label.
const LEFT: f64 = 76.0;
const BOTTOM: f64 = 56.0;
const FONT: f64 = 12.0;
/// Mean width of a character of a sans-serif font, as a share of its size.
const CHARACTER: f64 = 0.56;
const LEGEND_ROW: f64 = 19.0;
const SWATCH: f64 = 24.0;
/// Ticks that a small panel has at least, where they are within it.
const FEWEST_TICKS: usize = 5;
/// A line of more points than these per unit of width is thinned out.
const DENSITY: f64 = 2.0;

/// Where everything is.
struct Layout {
    width: f64,
    height: f64,
    columns: usize,
    panel: [f64; 2],
    /// Height of a panel with its title and the gap to the next.
    row: f64,
    /// Left edge of the legend.
    legend: f64,
}

impl Layout {
    fn of(panels: usize, legend: &[&Series]) -> Self {
        let longest = legend.iter().map(|series| series.name.chars().count()).max();
        let legend_width = longest.map_or(0.0, |length| GAP + SWATCH + 8.0 + length as f64 * FONT * CHARACTER);
        let columns = match panels {
            0 | 1 => 1,
            2 | 4 => 2,
            3 | 5..=9 => 3,
            _ => 4,
        };
        let width = if panels > 1 { GRID_WIDTH } else { SINGLE[0] };
        let right = width - MARGIN - legend_width;
        let panel_width = ((right - LEFT - GAP * (columns - 1) as f64) / columns as f64).max(80.0);
        if panels <= 1 {
            let [_, height] = SINGLE;
            let panel = [panel_width, height - TITLE - BOTTOM];
            return Self { width, height, columns, panel, row: panel[1], legend: right };
        }
        let panel = [panel_width, PANEL_ASPECT * panel_width];
        let row = PANEL_TITLE + panel[1] + GAP / 2.0;
        let height = TITLE + row * panels.div_ceil(columns) as f64 + BOTTOM;
        Self { width, height, columns, panel, row, legend: right }
    }

    /// Upper left corner of a panel's coordinate system.
    fn corner(&self, index: usize) -> [f64; 2] {
        let (column, row) = (index % self.columns, index / self.columns);
        let below_title = self.row - self.panel[1] - if self.columns > 1 { GAP / 2.0 } else { 0.0 };
        [LEFT + column as f64 * (self.panel[0] + GAP), TITLE + row as f64 * self.row + below_title]
    }
}

/// A chart as the text of an SVG file.
pub(super) fn render(chart: &Chart) -> String {
    let legend = legend_entries(&chart.panels);
    let layout = Layout::of(chart.panels.len(), &legend);
    let Layout { width, height, panel: [panel_width, panel_height], .. } = layout;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height:.0}\" width=\"{width}\" \
         height=\"{height:.0}\" font-family=\"Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif\" \
         font-size=\"{FONT}\" fill=\"#333\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    svg += &text([LEFT, 28.0], "font-size=\"16\" font-weight=\"600\" fill=\"#111\"", &chart.title);
    let drawn = || chart.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| series.drawable(chart.log_y));
    let x = Axis::of(drawn().map(|(x, _)| x), false);
    let y = Axis::of(drawn().map(|(_, y)| y), chart.log_y);
    for (index, panel) in chart.panels.iter().enumerate() {
        let below_is_free = index + layout.columns >= chart.panels.len();
        let frame = Frame { corner: layout.corner(index), size: layout.panel, x, y };
        svg += &frame.grid(index % layout.columns == 0, below_is_free);
        if chart.panels.len() > 1 {
            let [left, top] = frame.corner;
            svg += &text([left, top - 6.0], "font-weight=\"600\"", &panel.title);
        }
        for series in &panel.series {
            svg += &frame.series(series, chart.log_y);
        }
        if panel.series.iter().all(|series| series.drawable(chart.log_y).next().is_none()) {
            let [left, top] = frame.corner;
            let middle = [left + panel_width / 2.0, top + panel_height / 2.0];
            svg += &text(middle, "text-anchor=\"middle\" fill=\"#777\"", "nothing to show");
        }
    }
    let (x_middle, y_middle) = ((LEFT + layout.legend) / 2.0, TITLE + (height - TITLE - BOTTOM) / 2.0);
    svg += &text([x_middle, height - 14.0], "text-anchor=\"middle\" font-size=\"13\"", &chart.x_label);
    let upright = format!("text-anchor=\"middle\" font-size=\"13\" transform=\"rotate(-90 18 {y_middle:.1})\"");
    svg += &text([18.0, y_middle], &upright, &chart.y_label);
    let [_, top] = layout.corner(0);
    svg += &legend_text(&legend, [layout.legend + GAP, top], height - BOTTOM - top);
    svg + "</svg>\n"
}

/// One panel's coordinate system.
struct Frame {
    corner: [f64; 2],
    size: [f64; 2],
    x: Axis,
    y: Axis,
}

impl Frame {
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let ([left, top], [width, height]) = (self.corner, self.size);
        (left + width * self.x.place(x), top + height * (1.0 - self.y.place(y)))
    }

    /// Lines at the ticks, with labels at the outer edges of the chart.
    fn grid(&self, labelled_left: bool, labelled_below: bool) -> String {
        let ([left, top], [width, height]) = (self.corner, self.size);
        let (right, bottom) = (left + width, top + height);
        let mut svg = String::new();
        let line = |x1: f64, y1: f64, x2: f64, y2: f64, color: &str| {
            format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\"/>\n")
        };
        for (tick, label) in self.y.ticks(((height / 42.0) as usize).max(FEWEST_TICKS)) {
            let (_, y) = self.at((self.x.low(), tick));
            svg += &line(left, y, right, y, "#e4e4e4");
            if labelled_left {
                svg += &text([left - 8.0, y + 4.0], "text-anchor=\"end\"", &label);
            }
        }
        for (tick, label) in self.x.ticks((width / 64.0) as usize) {
            let (x, _) = self.at((tick, self.y.low()));
            svg += &line(x, top, x, bottom, "#f0f0f0");
            if labelled_below {
                svg += &text([x, bottom + 18.0], "text-anchor=\"middle\"", &label);
            }
        }
        svg + &line(left, bottom, right, bottom, "#777") + &line(left, top, left, bottom, "#777")
    }

    fn series(&self, series: &Series, log_y: bool) -> String {
        let points: Vec<(f64, f64)> = series.drawable(log_y).map(|point| self.at(point)).collect();
        if points.is_empty() {
            return String::new();
        }
        let color = series.color;
        let name = escaped(&series.name);
        let mut svg = format!("<g class=\"series\"><title>{name}</title>");
        if series.mark == Mark::Bins {
            let base = self.at((self.x.low(), self.y.low())).1;
            let outline = coordinates(&outline(&points, base));
            svg += &format!("<polygon points=\"{outline}\" fill=\"{color}\" fill-opacity=\"0.45\"/>");
        } else {
            let dashes =
                if series.mark == Mark::Dashed { " stroke-dasharray=\"6 4\" stroke-opacity=\"0.7\"" } else { "" };
            let line = coordinates(&thinned(&points, (DENSITY * self.size[0]) as usize));
            svg += &format!(
                "<polyline points=\"{line}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.8\" \
                 stroke-linejoin=\"round\" stroke-linecap=\"round\"{dashes}/>"
            );
        }
        // A line of one point is invisible without its dot.
        if series.mark == Mark::Dots || points.len() == 1 {
            for (x, y) in points {
                svg += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>");
            }
        }
        svg + "</g>\n"
    }
}

/// The outline of a histogram whose bins begin at `points`, from `base` and back to it.
fn outline(points: &[(f64, f64)], base: f64) -> Vec<(f64, f64)> {
    let mut outline = Vec::with_capacity(2 * points.len() + 2);
    let mut height = base;
    for &(x, y) in points {
        outline.extend([(x, height), (x, y)]);
        height = y;
    }
    let right = points.last().map(|&(x, _)| (x, base));
    outline.into_iter().chain(right).collect()
}

/// `points` or, where they are more than `most`, the lowest and highest of every stretch of them.
fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(most.max(2) / 2);
    let extremes = points.chunks(stretch).flat_map(|chunk| {
        let by_y = |a: &usize, b: &usize| chunk[*a].1.total_cmp(&chunk[*b].1);
        let lowest = (0..chunk.len()).min_by(by_y).unwrap_or(0);
        let highest = (0..chunk.len()).max_by(by_y).unwrap_or(0);
        [chunk[lowest.min(highest)], chunk[lowest.max(highest)]]
    });
    extremes.collect()
}

/// The series that stand for each name, in the order of their appearance.
fn legend_entries(panels: &[Panel]) -> Vec<&Series> {
    let mut entries: Vec<&Series> = Vec::new();
    for series in panels.iter().flat_map(|panel| &panel.series) {
        if !series.name.is_empty() && entries.iter().all(|entry| entry.name != series.name) {
            entries.push(series);
        }
    }
    entries
}

/// The legend; of more entries than fit, as many as do at equal distances.
fn legend_text(entries: &[&Series], [left, top]: [f64; 2], height: f64) -> String {
    let rows = (height / LEGEND_ROW).max(2.0) as usize;
    let shown = entries.len().min(rows);
    let mut svg = String::new();
    for row in 0..shown {
        let series = entries[row * (entries.len() - 1) / (shown - 1).max(1)];
        let y = top + LEGEND_ROW * (row as f64 + 0.5);
        let (right, middle) = (left + SWATCH, left + SWATCH / 2.0);
        let color = series.color;
        svg += &match series.mark {
            Mark::Bins => {
                let corner = y - 5.0;
                format!(
                    "<rect x=\"{left:.1}\" y=\"{corner:.1}\" width=\"{SWATCH}\" height=\"10\" fill=\"{color}\" fill-opacity=\"0.45\"/>"
                )
            }
            mark => {
                let dashes = if mark == Mark::Dashed { " stroke-dasharray=\"6 4\"" } else { "" };
                format!(
                    "<line x1=\"{left:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" stroke=\"{color}\" stroke-width=\"1.8\"{dashes}/>"
                )
            }
        };
        if series.mark == Mark::Dots {
            svg += &format!("<circle cx=\"{middle:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>");
        }
        svg += &text([right + 8.0, y + 4.0], "", &series.name);
    }
    svg
}

fn coordinates(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

fn text([x, y]: [f64; 2], attributes: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>\n", escaped(text))
}

/// Text as XML has it, without what XML cannot have.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plots::{ORDINARY, ordinal};

    fn series(svg: &str) -> usize {
        svg.matches("class=\"series\"").count()
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        let odd = vec![(0.0, f64::NAN), (f64::INFINITY, 1.0), (1.0, 0.0), (2.0, -1.0), (3.0, f64::NEG_INFINITY)];
        for mark in [Mark::Line, Mark::Dashed, Mark::Dots, Mark::Bins] {
            let lines = |points: &[(f64, f64)]| {
                let line = Series::line("a < b & c", ORDINARY, points.to_vec()).marked(mark);
                [true, false].map(|log_y| render(&Chart::of_lines("t", ["x", "y"], log_y, vec![line.clone()])))
            };
            let [log, linear] = lines(&odd);
            assert_eq!((series(&log), series(&linear)), (0, 1));
            assert!(log.contains("nothing to show") && log.contains("a &lt; b &amp; c"), "{log}");
            assert!(!log.contains("NaN") && !linear.contains("NaN") && !linear.contains("inf"), "{linear}");
            assert_eq!(lines(&[]).map(|svg| series(&svg)), [0, 0]);
        }
        assert_eq!(series(&render(&Chart::of_panels("t", ["x", "y"], false, Vec::new()))), 0);
    }

    #[test]
    fn a_legend_never_outgrows_its_chart() {
        let line = |index| Series::line(format!("layer {index}"), ordinal(index, 60), vec![(0.0, index as f64)]);
        let svg = render(&Chart::of_lines("t", ["x", "y"], false, (0..60).map(line).collect()));
        assert_eq!(series(&svg), 60);
        // The names also stand in the titles of the series.
        let entries = svg.matches(">layer ").count() - 60;
        assert!((10..=21).contains(&entries), "{entries}");
        assert!(svg.contains(">layer 0</text>") && svg.contains(">layer 59</text>"));
    }

    #[test]
    fn a_long_line_keeps_its_extremes() {
        // Of every stretch of 40 points, at least one is 0 and one is 36.
        let points: Vec<(f64, f64)> = (0..10_000).map(|x| (f64::from(x), f64::from(x % 37))).collect();
        let short = thinned(&points, 500);
        assert!(short.len() <= 500 && short.is_sorted_by(|a, b| a.0 <= b.0));
        for pair in short.chunks(2) {
            assert_eq!((pair[0].1.min(pair[1].1), pair[0].1.max(pair[1].1)), (0.0, 36.0));
        }
    }
}
