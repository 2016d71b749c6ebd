//! Stage 6: loops end where drivers still follow, and a grid may be split.

use evenkeel_gpu::Kernel;
use evenkeel_shaders::{Class, Device, trial::Trial};

use crate::{
    Subject,
    check::{kernels, label, run},
    device,
};

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
                let kernels = kernels(trial, card, variant).unwrap_or_default();
                faults.extend(kernels.into_iter().filter_map(|kernel| split(kernel, trial)));
            }
        }
    }
    faults
}

/// A grid in pieces computes the same bits as in one. Stage 3 reports dispatches that fail.
fn split(kernel: Kernel, trial: &Trial) -> Option<String> {
    let (Ok(whole), Ok(pieces)) = (run(trial, kernel, 1), run(trial, kernel, PIECES)) else { return None };
    let name = label(kernel);
    (whole != pieces)
        .then(|| format!("{name}, {}: expected the same bits from a grid in {PIECES} pieces, got others", trial.label))
}
