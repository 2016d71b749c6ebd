//! Stage 6: loops end where drivers still follow, and a grid may be split.

use evenkeel_shaders::{Card, Class, Device, Variant};

use crate::{Subject, check::Trial, device};

/// lavapipe 22.3 ends the loops of an invocation after so many iterations, all of them summed, without a word.
const MOST_ITERATIONS: u64 = 65_535;

/// Dispatches that a grid is split into.
const PIECES: u32 = 3;

/// Stage 6.
pub(crate) fn loops_stage(subject: &Subject) -> Vec<String> {
    let card = subject.card;
    // Stage 3 reports cases that cannot be built and a missing device.
    let (Ok(trials), Ok(device)) = (subject.trials(), device::profile()) else { return Vec::new() };
    let classes = [Class::Software, Class::Integrated, Class::Discrete];
    let mut faults = Vec::new();
    for variant in card.variants {
        for trial in trials.iter().filter(|trial| (variant.fits)(&trial.params)) {
            let profiles = classes.map(|class| Device { class, ..device });
            let most = profiles.iter().map(|profile| (variant.iterations)(&trial.params, profile)).max().unwrap_or(0);
            if most >= MOST_ITERATIONS {
                faults.push(format!(
                    "{}, {}: expected fewer than {MOST_ITERATIONS} loop iterations, got {most}",
                    variant.name, trial.label
                ));
            }
            let groups = (variant.groups)(&trial.params, &device);
            if groups > 1 && variant.able(&device) {
                faults.extend(split(card, variant, trial));
            }
        }
    }
    faults
}

/// A grid in pieces computes the same bits as in one. Stage 3 reports dispatches that fail.
fn split(card: &'static Card, variant: &'static Variant, trial: &Trial) -> Option<String> {
    let (Ok(whole), Ok(pieces)) = (trial.run(card, variant, 1), trial.run(card, variant, PIECES)) else { return None };
    (whole != pieces).then(|| {
        format!("{}, {}: expected the same bits from a grid in {PIECES} pieces, got others", variant.name, trial.label)
    })
}
