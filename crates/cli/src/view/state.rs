//! What the view shows.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    time::Duration,
};

use evenkeel_train::{
    EvaluationRow, Plan, StepRow,
    inspection::{
        Role,
        run::{RunRecord, weight_pointer},
    },
};

use crate::{curve::Curve, output::count, pace::Pace, progress::Live};

/// Lines about what went on that are kept.
const LINES: usize = 20;

/// A run as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Run folder.
    pub(super) folder: String,
    /// Model and device.
    pub(super) title: String,
    /// Steps in all, and steps done.
    pub(super) steps: u64,
    pub(super) done: u64,
    /// Bytes of the memory plan.
    pub(super) planned: u64,
    /// Steps from one measured step to the next; 0: none.
    pub(super) interval: u64,
    pub(super) pace: Pace,
    pub(super) loss: Curve,
    pub(super) valid_loss: Curve,
    pub(super) lr: Curve,
    pub(super) grad_norm: Curve,
    pub(super) rate: Curve,
    /// The newest of each, where there is one.
    pub(super) last: Option<Last>,
    pub(super) last_valid: Option<f64>,
    /// Matrices by role: those inside the layers, then the others, by name.
    pub(super) matrices: Vec<Matrices>,
    pub(super) lines: VecDeque<String>,
    /// Whether the run stops after this step.
    pub(super) stopping: bool,
}

/// What changes between two drawings by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Since the view was opened.
    pub(super) elapsed: Duration,
    /// Bytes of this process in memory, where the system says so.
    pub(super) resident: Option<u64>,
}

/// Numbers of the newest step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    pub(super) loss: f64,
    pub(super) lr: f64,
    pub(super) grad_norm: f64,
}

/// Standard deviations of the matrices of one role.
#[derive(Debug)]
pub(super) struct Matrices {
    pub(super) role: String,
    /// When they were measured first, and last, by layer.
    pub(super) first: Vec<f64>,
    pub(super) std: Vec<f64>,
}

impl Matrices {
    /// How much larger their mean is than when it was measured first.
    pub(super) fn change(&self) -> f64 {
        let sum = |stds: &[f64]| stds.iter().sum::<f64>();
        sum(&self.std) / sum(&self.first) - 1.0
    }
}

impl State {
    /// A run before its first step.
    pub(crate) fn new(folder: &Path, live: Live, steps: u64, plan: &Plan) -> Self {
        Self {
            folder: folder.display().to_string(),
            title: format!("{} parameters, {}", count(plan.parameters as f64), live.title),
            steps,
            planned: plan.bytes.iter().map(|(_, bytes)| bytes).sum(),
            interval: live.interval,
            ..Self::default()
        }
    }

    /// Takes what a run did before this process.
    pub(crate) fn earlier(&mut self, run: &RunRecord) {
        let mut newest = [f64::NAN; 3];
        let curves = [&mut self.loss, &mut self.lr, &mut self.grad_norm, &mut self.rate, &mut self.valid_loss];
        let pointers = ["/loss", "/lr", "/grad_norm", "/tokens_per_s", "/valid_loss"];
        for (index, (curve, pointer)) in curves.into_iter().zip(pointers).enumerate() {
            let series = run.series(pointer);
            series.iter().for_each(|&(step, value)| curve.push(step as f64, value));
            if let (Some(newest), Some((_, value))) = (newest.get_mut(index), series.last()) {
                *newest = *value;
            }
        }
        self.done = run.steps_done();
        let [loss, lr, grad_norm] = newest;
        self.last = (self.done > 0).then_some(Last { loss, lr, grad_norm });
        self.last_valid = run.series("/valid_loss").last().map(|(_, loss)| *loss);
        let weights = run.measured_weights();
        let stds: Vec<_> = weights.iter().map(|name| run.series(&weight_pointer(name, "std"))).collect();
        for at in [<[_]>::first, <[_]>::last] {
            let measured = weights.iter().zip(&stds).filter_map(|(name, std)| Some((name.as_str(), at(std)?.1)));
            self.measure(measured);
        }
    }

    /// Takes a step.
    pub(crate) fn step(&mut self, row: &StepRow, pace: Pace) {
        let x = row.step as f64;
        self.loss.push(x, row.loss);
        self.lr.push(x, row.lr);
        self.grad_norm.push(x, row.grad_norm);
        self.rate.push(x, row.tokens_per_s);
        self.done = row.step;
        self.last = Some(Last { loss: row.loss, lr: row.lr, grad_norm: row.grad_norm });
        self.pace = pace;
        if let Some(measurement) = &row.measurement {
            self.measure(measurement.weights.iter().map(|(name, weight)| (name.as_str(), weight.std)));
        }
    }

    /// Takes an evaluation.
    pub(crate) fn evaluation(&mut self, row: &EvaluationRow) {
        self.valid_loss.push(row.step as f64, row.valid_loss);
        self.last_valid = Some(row.valid_loss);
    }

    /// Takes a line about what goes on.
    pub(crate) fn line(&mut self, text: &str) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(text.to_owned());
    }

    /// Takes the standard deviations of the matrices called by their names.
    fn measure<'a>(&mut self, stds: impl Iterator<Item = (&'a str, f64)>) {
        let mut roles: BTreeMap<(bool, &str), BTreeMap<Option<usize>, f64>> = BTreeMap::new();
        for (name, std) in stds {
            let Role { name, layer } = Role::of(name);
            roles.entry((layer.is_none(), name)).or_default().insert(layer, std);
        }
        for ((_, role), by_layer) in roles {
            let std: Vec<f64> = by_layer.into_values().collect();
            match self.matrices.iter_mut().find(|matrices| matrices.role == role) {
                Some(matrices) => matrices.std = std,
                None => self.matrices.push(Matrices { role: role.to_owned(), first: std.clone(), std }),
            }
        }
    }
}
