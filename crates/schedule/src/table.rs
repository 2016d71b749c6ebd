//! The schedule as a table: one line a step, then the memory.

use std::fmt;

use evenkeel_shaders::{Access, Device};

use crate::{Phase, Role, Schedule, Step, View};

/// A printable schedule. Groups are those of the variant that `device` runs.
#[derive(Debug)]
pub struct Table<'a> {
    /// What to print.
    pub schedule: &'a Schedule,
    /// For whom.
    pub device: Device,
}

const HEADINGS: [&str; 7] = ["scope", "kernel", "reads", "writes", "groups", "MFLOP", "MB"];

impl Table<'_> {
    fn name(&self, step: &Step, view: View) -> String {
        let tensor = self.schedule.tensor(view.tensor);
        let name = tensor.name.strip_prefix(&format!("{}.", step.scope)).unwrap_or(&tensor.name);
        if view.len == tensor.len() {
            return name.to_owned();
        }
        format!("{name}[{}..{}]", view.offset, view.offset + view.len)
    }

    fn row(&self, step: &Step) -> [String; 7] {
        let names = |wanted: fn(Access) -> bool| {
            let chosen = step.accesses().filter(|(access, _)| wanted(*access));
            chosen.map(|(_, view)| self.name(step, view)).collect::<Vec<_>>().join(" ")
        };
        let sign = if step.params.accumulates() { "+= " } else { "" };
        let groups = step
            .card
            .variant(&self.device, &step.params, step.precision)
            .map_or(0, |v| (v.groups)(&step.params, &self.device));
        [
            step.scope.clone(),
            step.card.name.to_owned(),
            names(|access| access != Access::Write),
            format!("{sign}{}", names(|access| access != Access::Read)),
            groups.to_string(),
            format!("{:.3}", step.flops() as f64 / 1e6),
            format!("{:.3}", step.bytes() as f64 / 1e6),
        ]
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 7]> = self.schedule.steps.iter().map(|step| self.row(step)).collect();
        let width = |i: usize| rows.iter().map(|row| row[i].len()).chain([HEADINGS[i].len()]).max().unwrap_or(0);
        let widths: [usize; 7] = std::array::from_fn(width);
        let line = |f: &mut fmt::Formatter<'_>, cells: [&str; 7]| {
            let mut text = String::new();
            for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
                let numeric = i >= 4;
                text += &if numeric { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(f, HEADINGS)?;
        let mut phase: Option<Phase> = None;
        for (step, row) in self.schedule.steps.iter().zip(&rows) {
            if phase.replace(step.phase) != Some(step.phase) {
                writeln!(f, "-- {}", step.phase)?;
            }
            line(f, std::array::from_fn(|i| row[i].as_str()))?;
        }
        writeln!(f, "-- memory")?;
        let by_role = self.schedule.memory.bytes_by_role();
        for role in Role::ALL {
            if let Some(bytes) = by_role.get(&role) {
                writeln!(f, "{role:<12} {bytes:>14} bytes")?;
            }
        }
        let memory = &self.schedule.memory;
        writeln!(f, "{:<12} {:>14} bytes in {} buffers", "total", memory.total_bytes(), memory.buffers().len())?;
        writeln!(f, "{:<12} {:>14} bytes", "live peak", memory.live_peak_bytes())
    }
}
