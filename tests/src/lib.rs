//! The kernel harness: the stages that every card and every variant of it goes through. No kernel has tests of its
//! own; what it computes is stated by its card and judged here.

mod check;
mod device;
mod gradient;
mod inputs;
mod lint;
mod loops;
mod uniformity;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use evenkeel_shaders::{CARDS, Card};

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
    const ALL: [(Self, StageFn); 6] = [
        (Self::Reflect, |subject| lint::reflect_stage(subject.card)),
        (Self::Lint, |subject| lint::lint_stage(subject.card)),
        (Self::Check, check::check_stage),
        (Self::Gradient, gradient::gradient_stage),
        (Self::Determinism, check::determinism_stage),
        (Self::Loops, loops::loops_stage),
    ];
}

type StageFn = fn(&Subject) -> Vec<String>;

/// A card under examination, among the cards that it may name as its gradients.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The card.
    pub card: &'static Card,
    /// Where cards are looked up by name.
    pub cards: &'static [&'static Card],
}

impl Subject {
    /// The card whose gradient this one computes.
    pub(crate) fn forward(&self) -> Option<&'static Card> {
        self.cards.iter().copied().find(|other| other.gradients.contains(&self.card.name))
    }

    /// Puts the card through every stage. Never panics: a panic inside a card is a fault of its stage.
    pub fn examine(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (stage, run) in Stage::ALL {
            let found = catch_unwind(AssertUnwindSafe(|| run(self))).unwrap_or_else(|panic| {
                let message = panic.downcast_ref::<String>().map(String::as_str);
                let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown cause");
                vec![format!("panicked: {message}")]
            });
            faults.extend(found.into_iter().map(|message| Fault { kernel: self.card.name, stage, message }));
        }
        faults
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
    let faults = Subject { card, cards: CARDS }.examine();
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    assert!(
        lines.is_empty(),
        "{} faults (seed {}; set EVENKEEL_SEED to try another)\n{}",
        lines.len(),
        inputs::seed(),
        lines.join("\n")
    );
}
