//! The kernel harness: the stages that every card and every variant of it goes through. No kernel has tests of its
//! own; what it computes is stated by its card and judged here.
//!
//! `EVENKEEL_ADAPTER` names a part of the adapter to run on (the best one otherwise), `EVENKEEL_SEED` is the seed of the
//! random data.

mod check;
mod device;
pub mod golden;
mod gradient;
mod lint;
mod loops;
mod uniformity;

use std::{
    cell::OnceCell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use evenkeel_shaders::{
    CARDS, Card,
    trial::{Trial, seed, trials},
};

pub use device::gpu;

/// One property that a card is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The WGSL and the card agree; default limits; translates to every shading language.
    Reflect,
    /// No barrier or subgroup operation in divergent flow; nothing unused.
    Lint,
    /// Every variant and the CPU kernel against the f64 reference.
    Check,
    /// The backward kernels' references against central differences of the forward's.
    Gradient,
    /// The same input gives the same bits, on one thread and on many.
    Determinism,
    /// The loop budget, and that a grid may be split.
    Loops,
}

impl Stage {
    /// In the order that [`assert_sound`] goes through.
    pub const ALL: [Self; 6] = [Self::Reflect, Self::Lint, Self::Check, Self::Gradient, Self::Determinism, Self::Loops];
}

/// A card under examination, among the cards that it may name as its gradients.
pub struct Subject {
    card: &'static Card,
    cards: &'static [&'static Card],
    trials: OnceCell<Result<Vec<Trial>, String>>,
}

impl Subject {
    /// Kernels are looked up by name among `cards`.
    pub fn new(card: &'static Card, cards: &'static [&'static Card]) -> Self {
        Self { card, cards, trials: OnceCell::new() }
    }

    /// The card's cases with data and expectations, made once for all stages that run kernels.
    pub(crate) fn trials(&self) -> Result<&[Trial], &String> {
        self.trials.get_or_init(|| trials(self.card, self.forward())).as_ref().map(Vec::as_slice)
    }

    /// The card whose gradient this one computes.
    pub(crate) fn forward(&self) -> Option<&'static Card> {
        self.cards.iter().copied().find(|other| other.gradients.contains(&self.card.name))
    }

    /// Puts the card through one stage. Never panics: a panic inside a card is a fault of its stage.
    pub fn run(&self, stage: Stage) -> Vec<Fault> {
        let judge = || match stage {
            Stage::Reflect => lint::reflect_stage(self.card),
            Stage::Lint => lint::lint_stage(self.card),
            Stage::Check => check::check_stage(self),
            Stage::Gradient => gradient::gradient_stage(self),
            Stage::Determinism => check::determinism_stage(self),
            Stage::Loops => loops::loops_stage(self),
        };
        let found = catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|panic| {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown cause");
            vec![format!("panicked: {message}")]
        });
        found.into_iter().map(|message| Fault { kernel: self.card.name, stage, message }).collect()
    }
}

/// What is wrong with a card.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Kernel.
    pub kernel: &'static str,
    /// Stage that found it.
    pub stage: Stage,
    /// What was expected and what was there.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}): {}", self.kernel, self.stage, self.message)
    }
}

/// Examines the kernel called `name` and panics with all its faults; what could not run here is printed.
///
/// # Panics
/// Where the card has a fault: this is the body of a test.
pub fn assert_sound(name: &str) {
    let Some(card) = evenkeel_shaders::card(name) else { panic!("{name}: expected a kernel of CARDS, got none") };
    let subject = Subject::new(card, CARDS);
    let lines: Vec<String> =
        Stage::ALL.into_iter().flat_map(|stage| subject.run(stage)).map(|fault| fault.to_string()).collect();
    assert!(
        lines.is_empty(),
        "{} faults (seed {}; set EVENKEEL_SEED to try another)\n{}",
        lines.len(),
        seed(),
        lines.join("\n")
    );
}
