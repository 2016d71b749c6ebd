//! Charts as SVG files: lines, dots and histograms, in one panel or in a grid of panels that share their axes.
//!
//! Text is set in the viewer's sans-serif font, so that no font is needed here; its width is estimated where room is
//! made for it.

mod axis;
mod drawing;
mod palette;

use std::{io, path::Path};

pub(crate) use axis::{Axis, label};
pub(crate) use drawing::thinned;
pub(crate) use palette::{BLACK, Color, GREY, ORDINARY, category, faint, ordinal, ordinals};

use crate::output;

/// A chart.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What the horizontal axis shows, with its unit.
    pub(crate) x_label: String,
    /// What the vertical axis shows, with its unit.
    pub(crate) y_label: String,
    /// Whether the vertical axis is logarithmic; then what is not above zero is left out.
    pub(crate) log_y: bool,
    /// One panel fills the chart; more make a grid, by rows.
    pub(crate) panels: Vec<Panel>,
}

/// One coordinate system. All panels of a chart have the same axes.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// Shown where there are several panels.
    pub(crate) title: String,
    /// From the lowest to the topmost.
    pub(crate) series: Vec<Series>,
}

/// Points that belong together. A point that is not finite is left out, and so is a line without points.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Its entry in the legend, where all series of this name are one; none if it is empty.
    pub(crate) name: String,
    /// x and y, by ascending x.
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) color: Color,
    pub(crate) mark: Mark,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A line.
    Line,
    /// A broken line.
    Dashed,
    /// A line through dots.
    Dots,
    /// A filled histogram: every point is the left edge and the height of a bin, the last one closes the last bin.
    Bins,
}

impl Chart {
    /// A chart of one panel.
    pub(crate) fn of_lines(title: &str, labels: [&str; 2], log_y: bool, series: Vec<Series>) -> Self {
        Self::of_panels(title, labels, log_y, vec![Panel { title: String::new(), series }])
    }

    /// A chart of several panels.
    pub(crate) fn of_panels(title: &str, [x_label, y_label]: [&str; 2], log_y: bool, panels: Vec<Panel>) -> Self {
        Self { title: title.to_owned(), x_label: x_label.to_owned(), y_label: y_label.to_owned(), log_y, panels }
    }

    /// Writes the chart as an SVG file.
    pub(crate) fn write_svg(&self, path: &Path) -> io::Result<()> {
        output::file(path, drawing::render(self).map_err(io::Error::other)?.as_bytes())
    }
}

impl Series {
    /// A line.
    pub(crate) fn line(name: impl Into<String>, color: Color, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, color, mark: Mark::Line }
    }

    /// The same points, drawn otherwise.
    pub(crate) fn marked(self, mark: Mark) -> Self {
        Self { mark, ..self }
    }

    /// What can be drawn of it.
    fn drawable(&self, log_y: bool) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.points.iter().copied().filter(move |&(x, y)| x.is_finite() && y.is_finite() && (!log_y || y > 0.0))
    }
}
