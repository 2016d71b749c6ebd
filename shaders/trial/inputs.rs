//! Random arguments of a case: seeded, rounded to f32, and consistent where one follows from others.

use std::env;

use half::f16;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::{Access, Arg, Card, Case, DType, Fill, Params, Value, Values};

/// Seed of all random data: `EVENKEEL_SEED`, or one that is the same on every run.
pub fn seed() -> u64 {
    env::var("EVENKEEL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_240_520)
}

/// Random numbers for one use; uses with different streams are independent.
pub struct Random(ChaCha8Rng);

impl Random {
    /// The numbers of one stream.
    pub fn new(stream: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed());
        generator.set_stream(stream);
        Self(generator)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// N(0, 1), by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform in 0..n.
    pub fn index(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }
}

/// The card's params of this case, in the card's order, with `accumulate` where the card has it.
pub fn params(card: &Card, case: &Case, accumulate: bool) -> Result<Params, String> {
    let mut params = Params::new();
    for param in card.params {
        let name = param.name();
        params = match (name, case.params.get(name)) {
            ("accumulate", None) => params.with_dim(name, usize::from(accumulate)),
            ("accumulate", Some(_)) => {
                return Err("case: expected no accumulate, got one (it is tried both ways)".into());
            }
            (_, Some(Value::U32(value))) => params.with_dim(name, value as usize),
            (_, Some(Value::F32(value))) => params.with_scalar(name, value),
            (_, None) => return Err(format!("case: expected a value of {name}, got {}", case.params)),
        };
    }
    Ok(params)
}

/// Everything that a case's references read: the card's inputs and, for a backward card, those of the forward card.
///
/// Plain fills come first. Where the card computes a gradient, arguments that are named like the forward card's outputs
/// then hold what the forward's reference gives, so that a saved log-sum-exp belongs to its scores.
///
/// `store` is what memory makes of an argument's number, or nothing where only references are compared.
pub fn draw(
    card: &'static Card,
    forward: Option<&'static Card>,
    case: &Case,
    random: &mut Random,
    store: &dyn Fn(&str, f64) -> f64,
) -> Result<Values, String> {
    let params = reference_params(card, forward, case)?;
    let computed: Vec<&Arg> = forward.map(outputs).unwrap_or_default();
    let fed = forward.into_iter().flat_map(inputs);
    let mut wanted: Vec<&Arg> = fed.collect();
    for arg in inputs(card) {
        let known = |other: &&Arg| other.name == arg.name;
        if !wanted.iter().any(known) && !computed.iter().any(known) {
            wanted.push(arg);
        }
    }
    let mut values = Values::new();
    for arg in &wanted {
        if !matches!(fill_of(case, arg), Fill::Derived(_)) {
            let drawn = plain(fill_of(case, arg), arg, arg.len(&params), random)?;
            values.insert(arg.name, drawn.into_iter().map(|value| store(arg.name, value)).collect());
        }
    }
    let is_fed = |arg: &&&Arg| forward.is_some_and(|forward| inputs(forward).any(|other| other.name == arg.name));
    derive(case, &params, wanted.iter().copied().filter(|arg| is_fed(&arg)), &mut values, store)?;
    if let Some(forward) = forward {
        for (name, value) in (forward.reference)(&params, &values) {
            // A tensor that the forward updates in place is not kept.
            if inputs(card).any(|arg| arg.name == name) && !inputs(forward).any(|arg| arg.name == name) {
                values.insert(name, value.into_iter().map(|value| store(name, value)).collect());
            }
        }
    }
    derive(case, &params, wanted.iter().copied().filter(|arg| !is_fed(&arg)), &mut values, store)?;
    Ok(values)
}

/// The case's params for both the card and its forward, `accumulate` off.
pub fn reference_params(card: &Card, forward: Option<&Card>, case: &Case) -> Result<Params, String> {
    let mut all = params(card, case, false)?;
    if let Some(forward) = forward {
        let theirs = params(forward, case, false).map_err(|error| format!("{error} (for {})", forward.name))?;
        for (name, value) in theirs.iter().filter(|(name, _)| all.get(name).is_none()).collect::<Vec<_>>() {
            all = match value {
                Value::U32(value) => all.with_dim(name, value as usize),
                Value::F32(value) => all.with_scalar(name, value),
            };
        }
    }
    Ok(all)
}

/// Computes the derived ones among `args`, in order.
pub fn derive<'a>(
    case: &Case,
    params: &Params,
    args: impl Iterator<Item = &'a Arg>,
    values: &mut Values,
    store: &dyn Fn(&str, f64) -> f64,
) -> Result<(), String> {
    for arg in args {
        if let Fill::Derived(compute) = fill_of(case, arg) {
            let derived: Vec<f64> = compute(params, values).into_iter().map(|value| store(arg.name, value)).collect();
            if derived.len() != arg.len(params) {
                return Err(format!(
                    "{}: expected {} derived values, got {}",
                    arg.name,
                    arg.len(params),
                    derived.len()
                ));
            }
            values.insert(arg.name, derived);
        }
    }
    Ok(())
}

/// Arguments that a kernel reads.
pub fn inputs(card: &'static Card) -> impl Iterator<Item = &'static Arg> {
    card.args.iter().filter(|arg| arg.access != Access::Write)
}

/// Arguments that a kernel writes and does not read.
pub fn outputs(card: &'static Card) -> Vec<&'static Arg> {
    card.args.iter().filter(|arg| arg.access == Access::Write).collect()
}

fn fill_of(case: &Case, arg: &Arg) -> Fill {
    case.fills.iter().find(|(name, _)| *name == arg.name).map_or(Fill::Normal(0.0, 1.0), |(_, fill)| *fill)
}

fn plain(fill: Fill, arg: &Arg, len: usize, random: &mut Random) -> Result<Vec<f64>, String> {
    let whole = matches!(fill, Fill::Index(_));
    if (arg.dtype == DType::U32) != whole {
        return Err(format!("{}: expected Fill::Index for u32 and another for f32, got {fill:?}", arg.name));
    }
    let mut one = || match fill {
        Fill::Normal(mean, std) => mean + std * random.normal(),
        Fill::Uniform(low, high) => low + (high - low) * random.uniform(),
        Fill::Index(n) => random.index(n) as f64,
        Fill::Derived(_) => f64::NAN,
    };
    Ok((0..len).map(|_| one()).collect())
}

/// A number as memory holds it: kernel and reference see the same. Indices stay exact below 2^24.
pub fn as_stored(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F16 => f64::from(f16::from_f64(value)),
        DType::F32 | DType::U32 => f64::from(value as f32),
    }
}
