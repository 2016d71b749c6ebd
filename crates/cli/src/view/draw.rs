//! The picture: what stands where at which size, and everything that is no chart.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, BorderType, Paragraph},
};

use super::{
    panels::{losses, matrices, small},
    state::{Moment, State},
};
use crate::output::{count, size};

/// Below this width or height there are only lines of text.
const SMALLEST: [u16; 2] = [40, 10];
/// Width of a number with its name.
const CELL: u16 = 20;
/// Least width with a column beside the loss, and its width.
const WITH_SIDE: u16 = 76;
const SIDE: [u16; 2] = [38, 66];
/// Least height of a small chart.
const SMALL: u16 = 7;

/// How things are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub(super) color: bool,
}

impl Theme {
    /// Without colours where `NO_COLOR` is set to anything.
    pub(super) fn of_environment() -> Self {
        Self { color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// A colour of the terminal's own palette.
    pub(super) fn of(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    /// For what is read once.
    pub(super) fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// For what is read again and again.
    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// A frame with a title.
    pub(super) fn block<'a>(self, title: Vec<Span<'a>>) -> Block<'a> {
        let pad = || [Span::raw(" ")];
        let title = Line::from_iter(pad().into_iter().chain(title).chain(pad()));
        Block::bordered().border_type(BorderType::Rounded).border_style(self.quiet()).title(title)
    }
}

/// Draws a run.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, moment: Moment, theme: Theme) {
    let area = frame.area();
    let numbers = numbers(state, moment, theme);
    if area.width < SMALLEST[0] || area.height < SMALLEST[1] {
        let lines = [head(state, area.width, theme), course(state, moment, area.width, theme)];
        frame.render_widget(Paragraph::new(Vec::from_iter(lines.into_iter().chain(numbers))), area);
        return;
    }
    let columns = usize::from(area.width / CELL).min(numbers.len());
    let events = match area.height {
        0..20 => 2,
        20..32 => 5,
        _ => 8,
    };
    let rows = numbers.len().div_ceil(columns) as u16;
    let parts = [1, 1, rows].map(Constraint::Length).into_iter();
    let parts = parts.chain([Constraint::Fill(1), Constraint::Length(events), Constraint::Length(1)]);
    let [top, bar, middle, body, bottom, foot] = Layout::vertical(parts).areas(area);
    frame.render_widget(head(state, area.width, theme), top);
    frame.render_widget(course(state, moment, area.width, theme), bar);
    grid(frame, &numbers, middle, columns);
    charts(frame, state, body, theme);
    lines(frame, state, bottom, theme);
    let help = if state.stopping {
        Span::styled("stopping after this step; Ctrl-C once more stops at once", theme.strong())
    } else {
        Span::styled("q or Ctrl-C: finish the step, write a checkpoint and stop", theme.quiet())
    };
    frame.render_widget(help, foot);
}

/// The run folder and the model to the left, the step to the right.
fn head<'a>(state: &'a State, width: u16, theme: Theme) -> Line<'a> {
    let step = format!("step {}/{}", state.done, state.steps);
    let room = usize::from(width).saturating_sub(step.len() + 2);
    let mut left = vec![Span::styled(shortened(&state.folder, room), theme.strong())];
    let used = left[0].width();
    if used + 2 + state.title.chars().count() <= room {
        left.push(Span::styled(format!("  {}", state.title), theme.quiet()));
    }
    let used: usize = left.iter().map(Span::width).sum();
    left.push(Span::raw(" ".repeat(usize::from(width).saturating_sub(used + step.len()))));
    left.push(Span::styled(step, theme.strong()));
    Line::from(left)
}

/// A bar over the steps, and the time.
fn course(state: &State, moment: Moment, width: u16, theme: Theme) -> Line<'static> {
    let share = state.done as f64 / state.steps.max(1) as f64;
    let left = match state.pace.tokens_per_s() {
        Some(_) => format!("{} left", clock(state.pace.left())),
        None => "- left".to_owned(),
    };
    let text = format!(" {:>5.1} %  {} elapsed  {left}", 100.0 * share, clock(moment.elapsed));
    let room = usize::from(width).saturating_sub(text.chars().count());
    let done = (share * room as f64).round() as usize;
    Line::from(vec![
        Span::styled("\u{2501}".repeat(done.min(room)), theme.of(Color::Green)),
        Span::styled("\u{2500}".repeat(room.saturating_sub(done)), theme.quiet()),
        Span::raw(text),
    ])
}

/// The newest numbers, each with its name.
fn numbers(state: &State, moment: Moment, theme: Theme) -> Vec<Line<'static>> {
    let before = |name: &str, value: Option<String>| {
        let value = value.unwrap_or_else(|| "-".to_owned());
        Line::from(vec![Span::styled(format!("{name} "), theme.quiet()), Span::styled(value, theme.strong())])
    };
    let behind = |value: Option<String>, unit: &str| {
        let value = value.unwrap_or_else(|| "-".to_owned());
        // A prefix such as k or Gi belongs to the unit.
        let (value, prefix) = value.split_once(' ').unwrap_or((&value, ""));
        let unit = Span::styled(format!(" {prefix}{unit}"), theme.quiet());
        Line::from(vec![Span::styled(value.to_owned(), theme.strong()), unit])
    };
    let rate = state.pace.tokens_per_s();
    vec![
        before("loss", state.last.map(|last| format!("{:.4}", last.loss))),
        before("validation", state.last_valid.map(|loss| format!("{loss:.4}"))),
        before("lr", state.last.map(|last| format!("{:.3e}", last.lr))),
        before("grad norm", state.last.map(|last| format!("{:.4}", last.grad_norm))),
        behind(rate.map(count), if rate.is_some_and(|rate| rate >= 1e3) { " tokens/s" } else { "tokens/s" }),
        behind(rate.map(|_| count(state.pace.flop_per_s())), "FLOP/s"),
        behind(Some(size(state.planned)), " planned"),
        behind(moment.resident.map(size), " resident"),
    ]
}

fn grid(frame: &mut Frame<'_>, numbers: &[Line<'_>], area: Rect, columns: usize) {
    let width = area.width / columns as u16;
    for (index, number) in numbers.iter().enumerate() {
        let (row, column) = ((index / columns) as u16, (index % columns) as u16);
        let cell = Rect { x: area.x + column * width, y: area.y + row, width, height: 1 };
        frame.render_widget(number, cell.intersection(area));
    }
}

/// The loss, and beside it what fits.
fn charts(frame: &mut Frame<'_>, state: &State, area: Rect, theme: Theme) {
    if area.width < WITH_SIDE {
        return losses(frame, state, area, theme);
    }
    let width = (area.width * 2 / 5).clamp(SIDE[0], SIDE[1]);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(width)]).areas(area);
    losses(frame, state, left, theme);
    let table = (state.matrices.len().max(1) as u16 + 3).min(right.height);
    let fitting = ((right.height - table) / SMALL).min(3);
    let table = Constraint::Length(if fitting == 0 { right.height } else { table });
    let parts = std::iter::once(table).chain((0..fitting).map(|_| Constraint::Fill(1)));
    let parts = Layout::vertical(parts).split(right);
    matrices(frame, state, parts[0], theme);
    let curves = [("learning rate", &state.lr), ("gradient norm", &state.grad_norm), ("tokens/s", &state.rate)];
    for ((name, curve), area) in curves.into_iter().zip(&parts[1..]) {
        small(frame, name, curve, *area, theme);
    }
}

/// The last lines about what went on, the newest at the bottom.
fn lines(frame: &mut Frame<'_>, state: &State, area: Rect, theme: Theme) {
    let inner = if area.height > 2 {
        let block = theme.block(vec![Span::styled("events", theme.strong())]);
        let inner = block.inner(area);
        frame.render_widget(block, area);
        inner
    } else {
        area
    };
    let shown = usize::from(inner.height).min(state.lines.len());
    let last = state.lines.iter().skip(state.lines.len() - shown);
    let width = usize::from(inner.width);
    let lines: Vec<Line<'_>> = last.map(|line| Line::from(shortened(line, width))).collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

/// `text` without its middle where it is longer than `width`: beginnings and ends of paths tell most.
fn shortened(text: &str, width: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= width || width < 3 {
        return characters.into_iter().take(width).collect();
    }
    let (head, tail) = ((width - 1) / 2, width / 2);
    let head: String = characters[..head].iter().collect();
    let tail: String = characters[characters.len() - tail..].iter().collect();
    format!("{head}\u{2026}{tail}")
}

/// `2:06`, `1:02:33`, `3 d 4 h`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match hours {
        0 => format!("{minutes}:{:02}", seconds % 60),
        1..48 => format!("{hours}:{:02}:{:02}", minutes % 60, seconds % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}
