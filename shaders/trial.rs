//! What a kernel is judged by: a case of its card with random arguments, what the f64 reference makes of them, and how
//! far a result may be from that. Who runs the kernel is left to others: the harness in `tests/`, and `evenkeel doctor`.

mod inputs;

use half::f16;

use crate::{Access, Arg, Card, CpuArgs, CpuSlice, DType, Form, Params, Precision, Variant};

pub use inputs::{Random, as_stored, derive, draw, inputs, outputs, params, reference_params, seed};

/// Words behind the data of every buffer, inside the bound range: a driver drops writes beyond the range, and a kernel
/// that strays would go unnoticed.
const GUARD_WORDS: usize = 64;

/// A NaN that no arithmetic produces; also what a `Write` argument holds before.
const GUARD: u32 = 0x7fc0_ee1e;
const HALF_GUARD: u32 = 0x7e1e;

/// One case with `accumulate` one way: the bits of every argument before, and what each output is to become.
#[derive(Debug)]
pub struct Trial {
    /// For the message.
    pub label: String,
    /// As dispatched.
    pub params: Params,
    /// What of it is stored in half precision.
    pub precision: Precision,
    /// By argument, without guards; two halves to a word.
    pub before: Vec<Vec<u32>>,
    /// By argument; None where it is not to change.
    expected: Vec<Option<Vec<f64>>>,
}

/// The card's cases, in every precision that some variant has for them, with `accumulate` both ways where it has that.
///
/// # Errors
/// A card at odds with itself.
pub fn trials(card: &'static Card, forward: Option<&'static Card>) -> Result<Vec<Trial>, String> {
    let accumulates = card.params.iter().any(|param| param.name() == "accumulate");
    if accumulates && outputs(card).is_empty() {
        return Err("accumulate: expected a Write argument to add to, got none".into());
    }
    let mut trials = Vec::new();
    let cases = (card.cases)();
    for (precision, (i, case)) in
        card.precisions().into_iter().flat_map(|p| cases.iter().enumerate().map(move |c| (p, c)))
    {
        let mut random = Random::new(i as u64);
        let dtype = |arg: &Arg| arg.stored(precision);
        let store = |name: &str, value| {
            as_stored(value, card.args.iter().find(|arg| arg.name == name).map_or(DType::F32, dtype))
        };
        let values = draw(card, forward, case, &mut random, &store).map_err(|error| format!("case {i}: {error}"))?;
        let whole = params(card, case, false)?;
        let forms = [false, true].map(|packed| Form { precision, packed });
        let stores = |variant: &Variant| forms.iter().any(|form| variant.stores(*form));
        if !card.variants.iter().any(|variant| stores(variant) && (variant.fits)(&whole)) {
            continue;
        }
        let reference = (card.reference)(&whole, &values);
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
                    Access::Write if *accumulate => (0..len).map(|_| store(arg.name, random.normal())).collect(),
                    Access::Write => vec![f64::NAN; len],
                    Access::Read | Access::ReadWrite => values[arg.name].clone(),
                };
                let sum = |new: &Vec<f64>| new.iter().zip(&old).map(|(new, old)| new + old).collect();
                let added = *accumulate && arg.access == Access::Write;
                expected.push(new.map(|new| if added { sum(new) } else { new.clone() }));
                before.push(words(&old, dtype(arg)));
            }
            let label = format!("case {i} in {precision}: {params}");
            trials.push(Trial { label, params, precision, before, expected });
        }
    }
    Ok(trials)
}

/// Numbers as words of memory, two halves to a word; NaN becomes one that no arithmetic produces.
pub fn words(values: &[f64], dtype: DType) -> Vec<u32> {
    let half = |&value: &f64| if value.is_nan() { HALF_GUARD } else { u32::from(f16::from_f64(value).to_bits()) };
    let word = |&value: &f64| match dtype {
        DType::F32 if value.is_nan() => GUARD,
        DType::U32 => value as u32,
        DType::F32 | DType::F16 => (value as f32).to_bits(),
    };
    match dtype {
        DType::F16 => values.chunks(2).map(|pair| half(&pair[0]) | pair.get(1).map_or(0, half) << 16).collect(),
        DType::F32 | DType::U32 => values.iter().map(word).collect(),
    }
}

/// The numbers in these words.
pub fn numbers(words: &[u32], dtype: DType) -> Vec<f64> {
    match dtype {
        DType::F16 => words.iter().flat_map(|word| [*word as u16, (word >> 16) as u16]).map(half_number).collect(),
        DType::F32 => words.iter().map(|&word| f64::from(f32::from_bits(word))).collect(),
        DType::U32 => words.iter().map(|&word| f64::from(word)).collect(),
    }
}

fn half_number(bits: u16) -> f64 {
    f64::from(f16::from_bits(bits))
}

impl Trial {
    /// The words of every argument before, with guards behind them.
    #[must_use]
    pub fn guarded(&self) -> Vec<Vec<u32>> {
        self.before.iter().map(|words| [words.as_slice(), &[GUARD; GUARD_WORDS]].concat()).collect()
    }

    /// What a kernel left of [`Trial::guarded`], without the guards.
    ///
    /// # Errors
    /// A guard that the kernel wrote to.
    pub fn unguarded(&self, card: &Card, mut buffers: Vec<Vec<u32>>) -> Result<Vec<Vec<u32>>, String> {
        for (arg, (buffer, before)) in card.args.iter().zip(buffers.iter_mut().zip(&self.before)) {
            let guards = buffer.split_off(before.len());
            if let Some(at) = guards.iter().position(|&word| word != GUARD) {
                return Err(format!("{}: expected no write behind the data, got one {at} words behind", arg.name));
            }
        }
        Ok(buffers)
    }

    /// Runs the CPU kernel; returns every argument's words.
    #[must_use]
    pub fn run_cpu(&self, card: &'static Card) -> Vec<Vec<u32>> {
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
                    (_, Access::Read) => CpuSlice::F32(float),
                    (_, _) => CpuSlice::F32Mut(float),
                },
            );
        }
        (card.cpu)(&self.params, args);
        let bits = |(floats, before): (Vec<f32>, &Vec<u32>)| {
            if floats.is_empty() { before.clone() } else { floats.into_iter().map(f32::to_bits).collect() }
        };
        floats.into_iter().zip(&self.before).map(bits).collect()
    }

    /// Compares what a variant, or the CPU kernel, left with what is expected.
    #[must_use]
    pub fn judge(&self, card: &'static Card, variant: Option<&Variant>, after: &[Vec<u32>]) -> Vec<String> {
        let nmse = card.nmse + variant.map_or(0.0, |variant| variant.cut_off(&self.params));
        let mut faults = Vec::new();
        for (i, arg) in card.args.iter().enumerate() {
            let Some(expected) = &self.expected[i] else {
                if after[i] != self.before[i] {
                    faults.push(format!("{}: expected an untouched input, got a changed one", arg.name));
                }
                continue;
            };
            let dtype = arg.stored(self.precision);
            let judged = distance(expected, &numbers(&after[i], dtype), nmse, dtype);
            faults.extend(judged.err().map(|fault| format!("{}: {fault}", arg.name)));
        }
        faults
    }
}

/// Half of the distance between neighbouring f16 numbers at `value`: what rounding to nearest may change.
fn half_rounding(value: f64) -> f64 {
    let exponent = value.abs().max(f64::from(f16::MIN_POSITIVE)).log2().floor();
    exponent.exp2() * f64::from(f16::EPSILON) / 2.0
}

/// Whether the mean of squared errors over the mean of squares is at most `nmse`; where the expectation is zero
/// throughout, whether the mean of squares is. Of a result in half precision, an error is what rounding it to nearest
/// does not explain: so the bound is that of the arithmetic, which is f32.
fn distance(expected: &[f64], got: &[f64], nmse: f64, dtype: DType) -> Result<(), String> {
    let (mut errors, mut squares, mut worst) = (0.0, 0.0, (0.0, 0));
    for (i, (&expected, &got)) in expected.iter().zip(got).enumerate() {
        let stored = as_stored(expected, dtype);
        let expected = if stored.is_infinite() { stored } else { expected };
        if !got.is_finite() && (expected.is_nan() || got != expected) {
            return Err(format!("element {i}: expected {expected:e}, got {got}"));
        }
        if got == expected {
            squares += if expected.is_finite() { expected * expected } else { 0.0 };
            continue;
        }
        let explained = if dtype == DType::F16 { half_rounding(expected) } else { 0.0 };
        let error = ((got - expected).abs() - explained).max(0.0).powi(2);
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
