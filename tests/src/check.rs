//! Stages 3 and 5: every variant and the CPU kernel against the f64 reference, and against themselves.

use std::io::{Write, stderr};

use evenkeel_gpu::Kernel;
use evenkeel_shaders::{Card, Precision, Variant, trial::Trial};
use rayon::ThreadPoolBuilder;

use crate::{Subject, device};

/// What there is of a variant for a trial: each form that stores its precision and that the device has.
pub(crate) fn kernels(trial: &Trial, card: &'static Card, variant: &'static Variant) -> Result<Vec<Kernel>, String> {
    if !(variant.fits)(&trial.params) {
        return Ok(Vec::new());
    }
    let forms = device::forms(trial.precision)?;
    Ok(forms.into_iter().filter(|&form| variant.stores(form)).map(|form| Kernel { card, variant, form }).collect())
}

/// Runs a kernel on the device, its grid split into so many dispatches; returns every argument's words.
pub(crate) fn run(trial: &Trial, kernel: Kernel, pieces: u32) -> Result<Vec<Vec<u32>>, String> {
    let mut buffers = trial.guarded();
    device::dispatch(kernel, &trial.params, pieces, &mut buffers)?;
    trial.unguarded(kernel.card, buffers)
}

/// Stage 3. Says which variants this device cannot run.
pub(crate) fn check_stage(subject: &Subject) -> Vec<String> {
    let card = subject.card;
    let trials = match subject.trials() {
        Ok(trials) => trials,
        Err(error) => return vec![error.clone()],
    };
    let mut faults = Vec::new();
    for trial in trials.iter().filter(|trial| trial.precision == Precision::F32) {
        let found = trial.judge(card, None, &trial.run_cpu(card));
        faults.extend(found.into_iter().map(|fault| format!("cpu, {}: {fault}", trial.label)));
    }
    for variant in card.variants {
        let fitting: Vec<&Trial> = trials.iter().filter(|trial| (variant.fits)(&trial.params)).collect();
        if fitting.is_empty() {
            faults.push(format!("{}: expected a case that fits it, got none", variant.name));
        }
        match device::able(variant) {
            Ok(true) => {}
            Ok(false) => {
                // Not by println, which the test runner hides.
                let _ = writeln!(stderr(), "not run: {} {} needs {:?}", card.name, variant.name, variant.needs);
                continue;
            }
            Err(error) => return [faults, vec![error]].concat(),
        }
        for trial in fitting {
            let kernels = match kernels(trial, card, variant) {
                Ok(kernels) => kernels,
                Err(error) => return [faults, vec![error]].concat(),
            };
            for kernel in kernels {
                let found = match run(trial, kernel, 1) {
                    Ok(after) => trial.judge(card, Some(variant), &after),
                    Err(error) => vec![error],
                };
                let name = label(kernel);
                faults.extend(found.into_iter().map(|fault| format!("{name}, {}: {fault}", trial.label)));
            }
        }
    }
    faults
}

/// The variant's name, and how halves lie in memory where it has any.
pub(crate) fn label(Kernel { variant, form, .. }: Kernel) -> String {
    let halves = if form.packed { ", packed halves" } else { "" };
    format!("{}{}", variant.name, if form.native() { ", native halves" } else { halves })
}

/// Stage 5.
pub(crate) fn determinism_stage(subject: &Subject) -> Vec<String> {
    let card = subject.card;
    // Stage 3 reports cases that cannot be built and dispatches that fail.
    let Ok(trials) = subject.trials() else { return Vec::new() };
    let mut faults = Vec::new();
    let pool = |threads| ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| error.to_string());
    let (one, two) = match pool(1).and_then(|one| Ok((one, pool(2)?))) {
        Ok(pools) => pools,
        Err(error) => return vec![format!("threads: {error}")],
    };
    for trial in trials.iter().filter(|trial| trial.precision == Precision::F32) {
        let once = one.install(|| trial.run_cpu(card));
        if once != two.install(|| trial.run_cpu(card)) {
            faults.push(format!("cpu, {}: expected the same bits from 1 and 2 threads, got others", trial.label));
        }
        if once != one.install(|| trial.run_cpu(card)) {
            faults.push(format!("cpu, {}: expected the same bits twice, got others", trial.label));
        }
    }
    for trial in trials {
        for variant in card.variants.iter().filter(|variant| device::able(variant) == Ok(true)) {
            for kernel in kernels(trial, card, variant).unwrap_or_default() {
                if let (Ok(once), Ok(twice)) = (run(trial, kernel, 1), run(trial, kernel, 1))
                    && once != twice
                {
                    let name = label(kernel);
                    faults.push(format!("{name}, {}: expected the same bits twice, got others", trial.label));
                }
            }
        }
    }
    faults
}
