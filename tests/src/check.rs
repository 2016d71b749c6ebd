//! Stages 3 and 5: every variant and the CPU kernel against the f64 reference, and against themselves.

use evenkeel_shaders::{Access, Card, CpuArgs, CpuSlice, DType, Params, Variant};
use rayon::ThreadPoolBuilder;

use crate::{
    Subject, device,
    inputs::{Random, as_f32, draw, outputs, params},
};

/// Words behind the data of every buffer, inside the bound range: a driver drops writes beyond the range, and a kernel
/// that strays would go unnoticed.
const GUARD_WORDS: usize = 64;

/// A NaN that no arithmetic produces; also what a `Write` argument holds before.
const GUARD: u32 = 0x7fc0_ee1e;

/// One case with `accumulate` one way: the bits of every argument before, and what each output is to become.
pub(crate) struct Trial {
    /// For the message.
    pub label: String,
    /// As dispatched.
    pub params: Params,
    /// By argument, without guards.
    pub before: Vec<Vec<u32>>,
    /// By argument; None where it is not to change.
    expected: Vec<Option<Vec<f64>>>,
}

/// The card's cases, with `accumulate` both ways where it has that.
pub(crate) fn trials(subject: &Subject) -> Result<Vec<Trial>, String> {
    let card = subject.card;
    let accumulates = card.params.iter().any(|param| param.name() == "accumulate");
    if accumulates && outputs(card).is_empty() {
        return Err("accumulate: expected a Write argument to add to, got none".into());
    }
    let mut trials = Vec::new();
    for (i, case) in (card.cases)().iter().enumerate() {
        let mut random = Random::new(i as u64);
        let values =
            draw(card, subject.forward(), case, &mut random, as_f32).map_err(|error| format!("case {i}: {error}"))?;
        let reference = (card.reference)(&params(card, case, false)?, &values);
        for accumulate in if accumulates { &[false, true][..] } else { &[false] } {
            let params = params(card, case, *accumulate)?;
            let (mut before, mut expected) = (Vec::new(), Vec::new());
            for arg in card.args {
                let len = arg.len(&params);
                let new = reference.get(arg.name);
                if (arg.access == Access::Read) != new.is_none() || new.is_some_and(|new| new.len() != len) {
                    return Err(format!(
                        "reference: expected {} values of {}, got {:?} (case {i})",
                        if arg.access == Access::Read { 0 } else { len },
                        arg.name,
                        new.map(Vec::len)
                    ));
                }
                let old = match arg.access {
                    Access::Write if *accumulate => (0..len).map(|_| as_f32(random.normal())).collect(),
                    Access::Write => vec![f64::NAN; len],
                    Access::Read | Access::ReadWrite => values[arg.name].clone(),
                };
                let sum = |new: &Vec<f64>| new.iter().zip(&old).map(|(new, old)| new + old).collect();
                let added = *accumulate && arg.access == Access::Write;
                expected.push(new.map(|new| if added { sum(new) } else { new.clone() }));
                before.push(words(&old, arg.dtype));
            }
            trials.push(Trial { label: format!("case {i}: {params}"), params, before, expected });
        }
    }
    Ok(trials)
}

fn words(values: &[f64], dtype: DType) -> Vec<u32> {
    let word = |&value: &f64| match dtype {
        DType::F32 if value.is_nan() => GUARD,
        DType::F32 => (value as f32).to_bits(),
        DType::U32 => value as u32,
    };
    values.iter().map(word).collect()
}

impl Trial {
    /// Runs a variant on the device, its grid split into so many dispatches; returns every argument's words.
    pub(crate) fn run(
        &self,
        card: &'static Card,
        variant: &'static Variant,
        pieces: u32,
    ) -> Result<Vec<Vec<u32>>, String> {
        let guarded = |words: &Vec<u32>| [words.as_slice(), &[GUARD; GUARD_WORDS]].concat();
        let mut buffers: Vec<Vec<u32>> = self.before.iter().map(guarded).collect();
        device::dispatch(card, variant, &self.params, pieces, &mut buffers)?;
        for (arg, buffer) in card.args.iter().zip(&mut buffers) {
            let guards = buffer.split_off(arg.len(&self.params));
            if let Some(at) = guards.iter().position(|&word| word != GUARD) {
                return Err(format!("{}: expected no write behind the data, got one {at} words behind", arg.name));
            }
        }
        Ok(buffers)
    }

    /// Runs the CPU kernel; returns every argument's words.
    pub(crate) fn run_cpu(&self, card: &'static Card) -> Vec<Vec<u32>> {
        let mut floats: Vec<Vec<f32>> = Vec::new();
        for (arg, before) in card.args.iter().zip(&self.before) {
            let float = before.iter().map(|&word| f32::from_bits(word));
            floats.push(if arg.dtype == DType::F32 { float.collect() } else { Vec::new() });
        }
        let mut args = CpuArgs::default();
        for ((arg, float), before) in card.args.iter().zip(&mut floats).zip(&self.before) {
            args.bind(
                arg.name,
                match (arg.dtype, arg.access) {
                    (DType::U32, _) => CpuSlice::U32(before),
                    (DType::F32, Access::Read) => CpuSlice::F32(float),
                    (DType::F32, _) => CpuSlice::F32Mut(float),
                },
            );
        }
        (card.cpu)(&self.params, args);
        let bits = |(floats, before): (Vec<f32>, &Vec<u32>)| {
            if floats.is_empty() { before.clone() } else { floats.into_iter().map(f32::to_bits).collect() }
        };
        floats.into_iter().zip(&self.before).map(bits).collect()
    }

    /// Compares what a kernel left with what is expected.
    fn judge(&self, card: &'static Card, after: &[Vec<u32>]) -> Vec<String> {
        let mut faults = Vec::new();
        for (i, arg) in card.args.iter().enumerate() {
            let Some(expected) = &self.expected[i] else {
                if after[i] != self.before[i] {
                    faults.push(format!("{}: expected an untouched input, got a changed one", arg.name));
                }
                continue;
            };
            let got: Vec<f64> = match arg.dtype {
                DType::F32 => after[i].iter().map(|&word| f64::from(f32::from_bits(word))).collect(),
                DType::U32 => after[i].iter().map(|&word| f64::from(word)).collect(),
            };
            faults.extend(distance(expected, &got, card.nmse).err().map(|fault| format!("{}: {fault}", arg.name)));
        }
        faults
    }
}

/// Whether the mean of squared errors over the mean of squares is at most `nmse`; where the expectation is zero
/// throughout, whether the mean of squares is.
fn distance(expected: &[f64], got: &[f64], nmse: f64) -> Result<(), String> {
    let (mut errors, mut squares, mut worst) = (0.0, 0.0, (0.0, 0));
    for (i, (&expected, &got)) in expected.iter().zip(got).enumerate() {
        if !got.is_finite() && (expected.is_nan() || got != expected) {
            return Err(format!("element {i}: expected {expected:e}, got {got}"));
        }
        if got == expected {
            squares += if expected.is_finite() { expected * expected } else { 0.0 };
            continue;
        }
        let error = (got - expected).powi(2);
        errors += error;
        squares += expected * expected;
        if error > worst.0 {
            worst = (error, i);
        }
    }
    let scale = if squares > 0.0 { squares } else { expected.len() as f64 };
    if errors <= nmse * scale {
        return Ok(());
    }
    let i = worst.1;
    Err(format!(
        "NMSE: expected at most {nmse:.1e}, got {:.1e} (worst element {i}: expected {:e}, got {:e})",
        errors / scale,
        expected[i],
        got[i]
    ))
}

/// Stage 3. Prints the variants that this device cannot run.
pub(crate) fn check_stage(subject: &Subject) -> Vec<String> {
    let card = subject.card;
    let trials = match subject.trials() {
        Ok(trials) => trials,
        Err(error) => return vec![error.clone()],
    };
    let mut faults = Vec::new();
    for trial in trials {
        let found = trial.judge(card, &trial.run_cpu(card));
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
                println!("not run: {} {} needs {:?}", card.name, variant.name, variant.needs);
                continue;
            }
            Err(error) => return [faults, vec![error]].concat(),
        }
        for trial in fitting {
            let found = match trial.run(card, variant, 1) {
                Ok(after) => trial.judge(card, &after),
                Err(error) => vec![error],
            };
            faults.extend(found.into_iter().map(|fault| format!("{}, {}: {fault}", variant.name, trial.label)));
        }
    }
    faults
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
    for trial in trials {
        let once = one.install(|| trial.run_cpu(card));
        if once != two.install(|| trial.run_cpu(card)) {
            faults.push(format!("cpu, {}: expected the same bits from 1 and 2 threads, got others", trial.label));
        }
        if once != one.install(|| trial.run_cpu(card)) {
            faults.push(format!("cpu, {}: expected the same bits twice, got others", trial.label));
        }
        for variant in card.variants.iter().filter(|variant| (variant.fits)(&trial.params)) {
            if device::able(variant) != Ok(true) {
                continue;
            }
            if let (Ok(once), Ok(twice)) = (trial.run(card, variant, 1), trial.run(card, variant, 1))
                && once != twice
            {
                faults.push(format!("{}, {}: expected the same bits twice, got others", variant.name, trial.label));
            }
        }
    }
    faults
}
