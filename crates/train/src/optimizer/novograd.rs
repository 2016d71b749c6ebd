//! NovoGrad (Ginsburg et al. 2019, arXiv 1905.11286): the second moment is one number per tensor, the norm of its
//! gradient, so that the state is half of Adam's. Without gradient averaging, as the released code has it by default.

use evenkeel_model::ParameterSpec;
use evenkeel_schedule::{Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::{accumulate, novograd, segment};

use super::is_decayed;
use crate::{
    segments::{Segments, statistics},
    settings::OptimizerSettings,
};

/// Records the update and returns its tables. The moments have the names of AdamW's; the second is of one element.
pub(super) fn record(
    r: &mut Recorder,
    settings: &OptimizerSettings,
    parameters: &[ParameterSpec],
    state: TensorId,
) -> Result<Vec<Segments>, ScheduleError> {
    let first = r.moments("exp_avg")?;
    let mut tables = Vec::new();
    for (decayed, name) in [(true, "novograd.decayed"), (false, "novograd.undecayed")] {
        let group = |spec: &ParameterSpec| is_decayed(settings, spec) == decayed;
        let decay = if decayed { settings.weight_decay } else { 0.0 };
        for segments in Segments::declare(r, name, parameters, group)? {
            let members = segments.members.iter().map(|&member| r.find(&parameters[member].name));
            let members = members.collect::<Result<Vec<_>, _>>()?;
            let second = r.scalar_moments(&format!("{name}.{}", segments.arena), "exp_avg_sq", &members)?;
            record_segments(r, settings, decay, &segments, [first[segments.arena], second, state])?;
            tables.push(segments);
        }
    }
    Ok(tables)
}

fn record_segments(
    r: &mut Recorder,
    settings: &OptimizerSettings,
    decay: f64,
    segments: &Segments,
    [first, second, state]: [TensorId; 3],
) -> Result<(), ScheduleError> {
    let (w, g) = (r.parameter_arenas()[segments.arena], r.gradient_arenas()[segments.arena]);
    let count = segments.len();
    let stats = statistics(r, g, segments.table, count)?;
    let next = r.scratch("exp_avg_sq", &[("SEG", count)])?;
    let params = Params::dims([("N", r.tensor(w).len()), ("SEG", count), ("S", segment::CHUNKS)])
        .with_scalar("beta1", settings.beta1 as f32)
        .with_scalar("beta2", settings.beta2 as f32)
        .with_scalar("one_minus_beta2", (1.0 - settings.beta2) as f32)
        .with_scalar("eps", settings.eps as f32)
        .with_scalar("weight_decay", decay as f32);
    let operands = [w, first, g, segments.table, stats, second, state, next].map(Into::into);
    r.run(&novograd::CARD, params, &operands)?;
    r.run(&accumulate::CARD, Params::dims([("N", count)]), &[next.into(), second.into()])
}
