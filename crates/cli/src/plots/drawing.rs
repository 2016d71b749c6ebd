//! The drawing of a chart by plotters, with the axes that all panels share and one legend.

use std::io;

use plotters::{
    coord::Shift,
    element::DashedPathElement,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{Chart, Mark, Panel, Series, axis::Axis};

/// Plotters puts everything at whole units; those of a screen are too coarse for a smooth line.
const UNIT: i32 = 10;
/// Width and height of a chart without its legend.
const SINGLE: [i32; 2] = [760 * UNIT, 500 * UNIT];
/// Width of a chart of several panels without its legend; its height follows from their number.
const GRID_WIDTH: i32 = 960 * UNIT;
/// Height of a panel of several, as a share of its width.
const PANEL_ASPECT: f64 = 0.72;
const MARGIN: i32 = 16 * UNIT;
const TITLE: i32 = 46 * UNIT;
/// Room for the label of an axis, and for those of its ticks.
const LABEL: i32 = 30 * UNIT;
const X_TICKS: i32 = 24 * UNIT;
const Y_TICKS: i32 = 52 * UNIT;
const FONT: i32 = 12 * UNIT;
const FONTS: &str = "Inter, Helvetica Neue, Helvetica, Arial, DejaVu Sans, sans-serif";
/// Mean width of a character of a sans-serif font.
const CHARACTER: i32 = 7 * UNIT;
const LEGEND_ROW: i32 = 19 * UNIT;
const SWATCH: i32 = 24 * UNIT;
const STROKE: u32 = 18;
const DOT: i32 = 3 * UNIT;
/// Ticks that a small panel has at least, where they are within it.
const FEWEST_TICKS: usize = 5;
/// A line of more points than these is thinned out.
const MOST_POINTS: usize = 1600;

const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const AXIS: RGBColor = RGBColor(0x77, 0x77, 0x77);
const MESH: RGBColor = RGBColor(0xe8, 0xe8, 0xe8);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<T> = Result<T, DrawingAreaErrorKind<io::Error>>;

/// A chart as the text of an SVG file.
pub(super) fn render(chart: &Chart) -> Drawn<String> {
    let legend = legend_entries(&chart.panels);
    let longest = legend.iter().map(|series| series.name.chars().count()).max();
    let legend_width = longest.map_or(0, |length| SWATCH + 2 * MARGIN + length as i32 * CHARACTER);
    let columns = match chart.panels.len() {
        0 | 1 => 1,
        2 | 4 => 2,
        3 | 5..=9 => 3,
        _ => 4,
    };
    let rows = chart.panels.len().div_ceil(columns).max(1);
    let [width, height] = match chart.panels.len() {
        0 | 1 => SINGLE,
        _ => {
            let panel = PANEL_ASPECT * f64::from(GRID_WIDTH) / columns as f64;
            [GRID_WIDTH, TITLE + LABEL + rows as i32 * panel as i32]
        }
    };
    let mut svg = String::new();
    let size = [width + legend_width, height];
    let root = SVGBackend::with_string(&mut svg, (size[0] as u32, size[1] as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let (panels, beside) = root.margin(TITLE, 0, 0, 0).split_horizontally(width);
    draw_panels(chart, &panels, (rows, columns))?;
    draw_legend(&legend, &beside)?;
    let title = font(16 * UNIT, FontStyle::Bold).pos(Pos::new(HPos::Left, VPos::Center));
    root.draw_text(&printable(&chart.title), &title, (MARGIN, TITLE / 2))?;
    root.present()?;
    drop((root, panels, beside));
    let extent = |unit: i32| format!("width=\"{}\" height=\"{}\"", size[0] / unit, size[1] / unit);
    Ok(svg.replacen(&extent(1), &extent(UNIT), 1))
}

/// The panels, and the labels of their axes below and to the left of all of them.
fn draw_panels(chart: &Chart, area: &Area, cells: (usize, usize)) -> Drawn<()> {
    let points = || chart.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| series.drawable(chart.log_y));
    let axes = [Axis::of(points().map(|(x, _)| x), false), Axis::of(points().map(|(_, y)| y), chart.log_y)];
    let inner = area.margin(0, LABEL, LABEL, 0);
    for (panel, cell) in chart.panels.iter().zip(inner.split_evenly(cells)) {
        draw_panel(panel, &cell, &axes, chart.log_y)?;
    }
    let (width, height) = area.dim_in_pixel();
    let (width, height) = (width as i32, height as i32);
    let label = font(13 * UNIT, FontStyle::Normal).pos(Pos::new(HPos::Center, VPos::Center));
    let upright = label.transform(FontTransform::Rotate270);
    area.draw_text(&printable(&chart.x_label), &label, ((width + LABEL + Y_TICKS) / 2, height - LABEL / 2))?;
    area.draw_text(&printable(&chart.y_label), &upright, (LABEL * 2 / 3, (height - LABEL - X_TICKS) / 2))
}

fn draw_panel(panel: &Panel, area: &Area, [x, y]: &[Axis; 2], log_y: bool) -> Drawn<()> {
    let mut builder = ChartBuilder::on(area);
    builder.x_label_area_size(X_TICKS).y_label_area_size(Y_TICKS).margin_right(MARGIN).margin_bottom(UNIT);
    if !panel.title.is_empty() {
        builder.caption(printable(&panel.title), font(FONT, FontStyle::Bold));
    }
    let (width, height) = area.dim_in_pixel();
    let most = |extent: u32, each: i32| (extent as usize / (each * UNIT) as usize).max(FEWEST_TICKS);
    let mut chart = builder.build_cartesian_2d(*x, *y)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_labels(most(width - Y_TICKS as u32, 64)).y_labels(most(height, 48));
    mesh.bold_line_style(MESH.stroke_width(UNIT as u32)).axis_style(AXIS.stroke_width(UNIT as u32));
    mesh.set_all_tick_mark_size(4 * UNIT).label_style(font(FONT, FontStyle::Normal)).draw()?;
    let mut empty = true;
    for series in &panel.series {
        let points: Vec<_> = series.drawable(log_y).collect();
        empty &= points.is_empty();
        let points = match series.mark {
            Mark::Bins => outline(&points, y.low()),
            _ => thinned(points, MOST_POINTS),
        };
        chart.draw_series(shapes(series.mark, series.color, points))?;
    }
    if empty {
        let middle = chart.plotting_area().dim_in_pixel();
        let style = font(FONT, FontStyle::Normal).pos(Pos::new(HPos::Center, VPos::Center));
        let place = (middle.0 as i32 / 2, middle.1 as i32 / 2);
        chart.plotting_area().strip_coord_spec().draw_text("nothing to show", &style, place)?;
    }
    Ok(())
}

/// What draws these points, or a swatch in the legend.
fn shapes<'a, P: Clone + 'static>(
    mark: Mark,
    color: RGBColor,
    points: Vec<P>,
) -> Vec<DynElement<'static, SVGBackend<'a>, P>> {
    if points.is_empty() {
        return Vec::new();
    }
    let stroke = color.stroke_width(STROKE);
    match mark {
        Mark::Bins => vec![Polygon::new(points, color.mix(0.45)).into_dyn()],
        Mark::Dashed if points.len() > 1 => {
            let stroke = color.mix(0.7).stroke_width(STROKE);
            vec![DashedPathElement::new(points, 6 * UNIT, 4 * UNIT, stroke).into_dyn()]
        }
        Mark::Line if points.len() > 1 => LineSeries::new(points, stroke).collect(),
        // A line of one point is invisible without its dot.
        _ => LineSeries::new(points, stroke.filled()).point_size(DOT as u32).collect(),
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
pub(crate) fn thinned(points: Vec<(f64, f64)>, most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points;
    }
    let stretch = points.len().div_ceil(most / 2);
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
fn draw_legend(entries: &[&Series], area: &Area) -> Drawn<()> {
    let rows = ((area.dim_in_pixel().1 as i32 - LABEL) / LEGEND_ROW).max(2) as usize;
    let shown = entries.len().min(rows);
    let style = font(FONT, FontStyle::Normal).pos(Pos::new(HPos::Left, VPos::Center));
    for row in 0..shown {
        let series = entries[row * (entries.len() - 1) / (shown - 1).max(1)];
        let y = LEGEND_ROW * row as i32 + LEGEND_ROW / 2;
        let (line, high) = (vec![(0, y), (SWATCH, y)], 5 * UNIT);
        let swatch = match series.mark {
            Mark::Bins => {
                vec![(Mark::Bins, vec![(0, y - high), (SWATCH, y - high), (SWATCH, y + high), (0, y + high)])]
            }
            Mark::Dots => vec![(Mark::Line, line), (Mark::Dots, vec![(SWATCH / 2, y)])],
            mark => vec![(mark, line)],
        };
        for shape in swatch.into_iter().flat_map(|(mark, points)| shapes(mark, series.color, points)) {
            area.draw(&shape)?;
        }
        area.draw_text(&printable(&series.name), &style, (SWATCH + MARGIN / 2, y))?;
    }
    Ok(())
}

fn font(size: i32, style: FontStyle) -> TextStyle<'static> {
    // Plotters divides sizes by this in an SVG.
    FontDesc::new(FontFamily::Name(FONTS), 1.24 * f64::from(size), style).color(&INK)
}

/// Text without what XML cannot have.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plots::{ORDINARY, ordinal};

    fn drawn(line: Series, log_y: bool) -> String {
        render(&Chart::of_lines("t", ["x", "y"], log_y, vec![line])).unwrap()
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        let odd = vec![(0.0, f64::NAN), (f64::INFINITY, 1.0), (1.0, 0.0), (2.0, -1.0), (3.0, f64::NEG_INFINITY)];
        for mark in [Mark::Line, Mark::Dashed, Mark::Dots, Mark::Bins] {
            // Without a name there is no swatch of its colour.
            let line = |points: &[(f64, f64)]| Series::line("", ORDINARY, points.to_vec()).marked(mark);
            let [log, linear] = [true, false].map(|log_y| drawn(line(&odd), log_y));
            assert!(!log.contains("#0072B2") && linear.contains("#0072B2"), "{log} {linear}");
            assert!(log.contains("nothing to show") && !linear.contains("nothing to show"), "{log}");
            assert!(!log.contains("NaN") && !linear.contains("NaN") && !linear.contains("inf"), "{linear}");
            assert!([true, false].iter().all(|&log_y| !drawn(line(&[]), log_y).contains("#0072B2")));
        }
        assert!(drawn(Series::line("a < b & c\u{1}", ORDINARY, odd), true).contains("a &lt; b &amp; c\u{fffd}\n"));
        assert!(render(&Chart::of_panels("t", ["x", "y"], false, Vec::new())).is_ok());
    }

    #[test]
    fn a_legend_never_outgrows_its_chart() {
        let line = |index| Series::line(format!("layer {index}"), ordinal(index, 60), vec![(0.0, index as f64)]);
        let svg = render(&Chart::of_lines("t", ["x", "y"], false, (0..60).map(line).collect())).unwrap();
        assert_eq!(svg.matches("<circle").count(), 60);
        let entries = svg.matches("\nlayer ").count();
        assert!((10..=22).contains(&entries), "{entries}");
        assert!(svg.contains("\nlayer 0\n") && svg.contains("\nlayer 59\n"));
    }

    #[test]
    fn a_long_line_keeps_its_extremes() {
        // Of every stretch of 125 points, at least one is 0 and one is 36.
        let points: Vec<(f64, f64)> = (0..100_000).map(|x| (f64::from(x), f64::from(x % 37))).collect();
        let short = thinned(points, MOST_POINTS);
        assert!(short.len() <= MOST_POINTS && short.is_sorted_by(|a, b| a.0 <= b.0));
        for pair in short.chunks(2) {
            assert_eq!((pair[0].1.min(pair[1].1), pair[0].1.max(pair[1].1)), (0.0, 36.0));
        }
    }
}
