//! Stage 4: the reference of a backward kernel against central differences of the forward's.
//!
//! The loss is a random projection of the forward's outputs, so the upstream gradients are that projection's
//! coefficients: none of them is 1, and a kernel that drops its upstream is found.

use evenkeel_shaders::{
    Access, Arg, Card, Case, DType, Params, Values,
    trial::{Random, derive, draw, inputs, reference_params},
};

use crate::Subject;

/// Steps of the differences, tried until one agrees. The five-point formula errs by step^4 of the fifth derivative, 1e-12
/// for the first step, and by rounding 1e-16 / step of the loss, 1e-11 for the last; the smaller ones are for inputs
/// near a strong curvature, such as a row of one element under a norm. A wrong gradient agrees with none.
const STEPS: [f64; 3] = [1e-3, 1e-4, 1e-5];

/// Largest accepted difference, relative to the gradient's typical element.
const TOLERANCE: f64 = 1e-6;

/// Elements of one gradient that are compared, and the floating-point operations that may be spent on them.
const MOST_PROBES: usize = 24;
const FLOPS_PER_ARGUMENT: u64 = 100_000_000;

/// One case of a backward card.
struct Chain<'a> {
    forward: &'static Card,
    backward: &'static Card,
    case: &'a Case,
    params: Params,
    values: Values,
}

/// Stage 4, for a card that names gradients; each of those is tried on its own cases.
pub(crate) fn gradient_stage(subject: &Subject) -> Vec<String> {
    let mut faults = Vec::new();
    for name in subject.card.gradients {
        let Some(backward) = subject.cards.iter().copied().find(|card| card.name == *name) else {
            faults.push(format!("gradients: expected names of kernels, got {name}"));
            continue;
        };
        for (i, case) in (backward.cases)().iter().enumerate() {
            let mut random = Random::new(i as u64);
            let found =
                Chain::new(subject.card, backward, case, &mut random).and_then(|chain| chain.compare(&mut random));
            match found {
                Ok(found) => faults.extend(found.into_iter().map(|fault| format!("{name}, case {i}: {fault}"))),
                Err(fault) => faults.push(format!("{name}, case {i}: {fault}")),
            }
        }
    }
    faults
}

impl<'a> Chain<'a> {
    fn new(
        forward: &'static Card,
        backward: &'static Card,
        case: &'a Case,
        random: &mut Random,
    ) -> Result<Self, String> {
        let values = draw(backward, Some(forward), case, random, &|_, value| value)?;
        let params = reference_params(backward, Some(forward), case)?;
        Ok(Self { forward, backward, case, params, values })
    }

    /// Each gradient that the backward card writes, compared with differences of the loss.
    fn compare(&self, random: &mut Random) -> Result<Vec<String>, String> {
        if self.upstream().is_empty() {
            return Err(format!(
                "upstream: expected d + an output of {} among the arguments, got none",
                self.forward.name
            ));
        }
        let computed = (self.backward.reference)(&self.params, &self.values);
        let mut faults = Vec::new();
        let mut compared = 0;
        for arg in self.backward.args.iter().filter(|arg| arg.access != Access::Read) {
            let Some((input, gradient)) = self.gradient(arg, &computed[arg.name])? else { continue };
            compared += 1;
            if let Some(fault) = self.compare_elements(input, &gradient, random) {
                faults.push(format!("{}: {fault}", arg.name));
            }
        }
        if compared == 0 {
            return Err(format!("gradients: expected d + an input of {} to be written, got none", self.forward.name));
        }
        Ok(faults)
    }

    /// Outputs of the forward card (those that it updates in place included) whose upstream gradient the backward reads.
    fn upstream(&self) -> Vec<(&'static str, &Vec<f64>)> {
        let written = self.forward.args.iter().filter(|arg| arg.access != Access::Read);
        let named = |out: &Arg| inputs(self.backward).find(|arg| arg.name.strip_prefix('d') == Some(out.name));
        written.filter_map(|out| Some((out.name, self.values.get(named(out)?.name)?))).collect()
    }

    /// The input of the forward card that `arg` is the gradient of, with that gradient. None where `arg` is something
    /// else that the backward computes.
    fn gradient(&self, arg: &Arg, computed: &[f64]) -> Result<Option<(&'static Arg, Vec<f64>)>, String> {
        let Some(name) = arg.name.strip_prefix('d') else { return Ok(None) };
        let (name, partial) = name.strip_suffix("_partial").map_or((name, false), |name| (name, true));
        let Some(input) = inputs(self.forward).find(|input| input.name == name && input.dtype == DType::F32) else {
            return Ok(None);
        };
        let len = input.len(&self.params);
        if !computed.len().is_multiple_of(len.max(1)) || (!partial && computed.len() != len) {
            return Err(format!("{}: expected the extents of {name} ({len} in all), got {}", arg.name, computed.len()));
        }
        let mut gradient = vec![0.0; len];
        for part in computed.chunks(len.max(1)) {
            gradient.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        Ok(Some((input, gradient)))
    }

    fn compare_elements(&self, input: &'static Arg, gradient: &[f64], random: &mut Random) -> Option<String> {
        let len = gradient.len();
        let affordable = FLOPS_PER_ARGUMENT / (4 * (self.forward.flops)(&self.params).max(1));
        let probes = MOST_PROBES.min(affordable.max(2) as usize);
        let every = len <= probes;
        let rms = (gradient.iter().map(|g| g * g).sum::<f64>() / len as f64).sqrt();
        for probe in 0..probes.min(len) {
            let i = if every { probe } else { random.index(len) };
            let found = self.compare_slope(input, gradient[i], rms, |moved, by| moved[i] += by);
            if let Some(fault) = found {
                return Some(format!("element {i}: {fault}"));
            }
        }
        // All elements at once, along a random direction: what the probes missed.
        let direction: Vec<f64> = (0..len).map(|_| random.normal() / (len as f64).sqrt()).collect();
        let along = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let shift = |moved: &mut [f64], by: f64| moved.iter_mut().zip(&direction).for_each(|(x, d)| *x += by * d);
        self.compare_slope(input, along, rms, shift).map(|fault| format!("along a random direction: {fault}"))
    }

    /// Compares with the derivative of the loss at 0 of how far `input` is moved, by the five-point formula.
    fn compare_slope(
        &self,
        input: &'static Arg,
        got: f64,
        scale: f64,
        shift: impl Fn(&mut [f64], f64),
    ) -> Option<String> {
        let loss = |by: f64| {
            let mut values = self.values.clone();
            if let Some(moved) = values.get_mut(input.name) {
                shift(moved, by);
            }
            self.loss(values)
        };
        let slope = |h: f64| (8.0 * (loss(h) - loss(-h)) - (loss(2.0 * h) - loss(-2.0 * h))) / (12.0 * h);
        let agrees = |slope: f64| (got - slope).abs() <= TOLERANCE * scale.max(slope.abs());
        if STEPS.iter().any(|&step| agrees(slope(step))) {
            return None;
        }
        Some(format!("expected {:e} (central differences), got {got:e}", slope(STEPS[0])))
    }

    fn loss(&self, mut values: Values) -> f64 {
        // Arguments that follow from others follow their shift too; an error here is draw's, and it had none.
        if derive(self.case, &self.params, inputs(self.forward), &mut values, &|_, value| value).is_err() {
            return f64::NAN;
        }
        let outputs = (self.forward.reference)(&self.params, &values);
        let project = |(name, upstream): (&str, &Vec<f64>)| -> f64 {
            outputs[name].iter().zip(upstream).map(|(out, up)| out * up).sum()
        };
        self.upstream().into_iter().map(project).sum()
    }
}
