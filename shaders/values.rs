//! What a card's reference computes with, and the cases it is tried on.

use std::collections::BTreeMap;

use crate::Params;

/// Tensors by argument name, in f64 (indices too), row-major: what a reference reads and returns.
pub type Values = BTreeMap<&'static str, Vec<f64>>;

/// How the harness fills an argument of a case; what is not named is drawn from N(0, 1).
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// N(mean, std^2).
    Normal(f64, f64),
    /// Uniform in [low, high).
    Uniform(f64, f64),
    /// Whole numbers, uniform in 0..n, with repeats.
    Index(usize),
    /// Computed from the arguments filled before it (those named earlier in the card).
    Derived(fn(&Params, &Values) -> Vec<f64>),
}

/// One set of params that the harness tries a card with.
#[derive(Clone, Debug)]
pub struct Case {
    /// All of the card's params, but for `accumulate`, which the harness tries both ways.
    pub params: Params,
    /// Fills other than N(0, 1), by argument.
    pub fills: Vec<(&'static str, Fill)>,
}

impl Case {
    /// A case with every argument drawn from N(0, 1).
    pub fn new(params: Params) -> Self {
        Self { params, fills: Vec::new() }
    }

    /// Fills one argument otherwise; the last fill of an argument counts.
    pub fn fill(mut self, arg: &'static str, fill: Fill) -> Self {
        self.fills.retain(|(known, _)| *known != arg);
        self.fills.push((arg, fill));
        self
    }
}
