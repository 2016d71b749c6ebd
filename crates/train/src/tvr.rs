//! Target variance rescaling (TVR, arXiv 2503.17500), in place on the device.
//!
//! After the update of every `interval`-th step each matrix inside the layers whose standard deviation exceeds
//! `threshold` targets is shrunk to the target, its mean kept: W <- (W - mean) / std * target + mean. The device
//! decides; moments are not touched. As in the released code the first check is after step 1 + interval, whatever the
//! steps at which a run was resumed.

use evenkeel_model::ParameterSpec;
use evenkeel_schedule::{DType, Params, Phase, Recorder, Role, TensorId};
use evenkeel_shaders::{segment, segment_rescale, sum};

use crate::{
    Executor, TrainError,
    names::{any_names, fault, require_all},
    segments::{Segments, statistics},
    settings::TvrSettings,
};

/// What the host takes part in.
#[derive(Clone, Debug)]
pub struct Tvr {
    interval: u64,
    /// Tables with the target of each segment.
    targets: Vec<(Segments, TensorId, Vec<f32>)>,
    /// Matrices rescaled by the last check (1).
    rescaled: TensorId,
}

impl Tvr {
    /// Records [`Phase::Rescale`], where the settings ask for it.
    ///
    /// # Errors
    /// Nothing to rescale: an `exclude` that names no matrix, or all of them.
    pub(crate) fn record(
        r: &mut Recorder,
        settings: &TvrSettings,
        parameters: &[ParameterSpec],
    ) -> Result<Option<Self>, TrainError> {
        if !settings.enabled {
            return Ok(None);
        }
        check_exclude(r, settings, parameters)?;
        let wanted = |spec: &ParameterSpec| is_wanted(settings, spec);
        let rescaled = r.new_tensor("tvr.rescaled", Role::State, DType::F32, &[("N", 1)])?;
        r.begin_phase(Phase::Rescale)?;
        let arenas = r.parameter_arenas();
        let mut targets = Vec::new();
        for (i, segments) in Segments::declare(r, "tvr", parameters, wanted)?.into_iter().enumerate() {
            let count = segments.len();
            let name = format!("tvr.targets.{}", segments.arena);
            let target = r.new_tensor(&name, Role::Constant, DType::F32, &[("SEG", count)])?;
            let w = arenas[segments.arena];
            r.scope("tvr", |r| {
                let stats = statistics(r, w, segments.table, count)?;
                let flags = r.scratch("rescaled", &[("SEG", count)])?;
                let params = Params::dims([("N", r.tensor(w).len()), ("SEG", count), ("S", segment::CHUNKS)])
                    .with_scalar("threshold", settings.threshold as f32);
                let operands = [w.into(), segments.table.into(), stats.into(), target.into(), flags.into()];
                r.run(&segment_rescale::CARD, params, &operands)?;
                let params = Params::dims([("N", count), ("accumulate", usize::from(i > 0))]).with_scalar("scale", 1.0);
                r.run(&sum::CARD, params, &[flags.into(), rescaled.into()])
            })?;
            let values = segments.members.iter().map(|&member| target_of(settings, &parameters[member])).collect();
            targets.push((segments, target, values));
        }
        Ok(Some(Self { interval: settings.interval, targets, rescaled }))
    }

    /// Writes the tables, once.
    pub(crate) fn prepare(&self, executor: &mut Executor) -> Result<(), TrainError> {
        for (segments, target, values) in &self.targets {
            executor.write(segments.table, &segments.values)?;
            executor.write(*target, values)?;
        }
        Ok(())
    }

    /// Whether weights are checked after step `step`, from 1.
    pub fn due(&self, step: u64) -> bool {
        is_due(self.interval, step)
    }

    /// Where [`Phase::Rescale`] leaves how many matrices it rescaled (1).
    pub(crate) fn rescaled(&self) -> TensorId {
        self.rescaled
    }
}

/// At 1 + interval, 1 + 2 interval, ...
fn is_due(interval: u64, step: u64) -> bool {
    step > 1 && (step - 1).is_multiple_of(interval)
}

fn target_of(settings: &TvrSettings, spec: &ParameterSpec) -> f32 {
    let index = spec.layer().map_or(1.0, |layer| (layer + 1) as f64);
    (if settings.depth_scaled { settings.target_std / index.sqrt() } else { settings.target_std }) as f32
}

/// Whether a parameter is a matrix inside the layers that is not excluded.
fn is_wanted(settings: &TvrSettings, spec: &ParameterSpec) -> bool {
    spec.layer().is_some() && !any_names(&settings.exclude, &spec.name)
}

/// Every entry must name a matrix, and some matrix must be left that is trained.
fn check_exclude(r: &Recorder, settings: &TvrSettings, parameters: &[ParameterSpec]) -> Result<(), TrainError> {
    let matrices = || parameters.iter().filter(|spec| spec.layer().is_some());
    let key = "tvr.exclude";
    let kind = "matrices inside the layers, such as \"o_proj\"";
    require_all(key, &settings.exclude, kind, matrices().map(|spec| spec.name.as_str()))?;
    let is_trained = |spec: &ParameterSpec| r.find(&spec.name).is_ok_and(|w| r.wants_gradient(w));
    if !matrices().any(|spec| is_wanted(settings, spec) && is_trained(spec)) {
        let got = format!("{:?}", settings.exclude);
        return Err(fault(key, "at least one matrix left to rescale that is trained", got));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, Sources};
    use evenkeel_model::ParameterKind;

    /// With depth scaling the target of a layer is divided by the root of its number, from 1.
    #[test]
    fn targets_follow_the_depth_where_that_is_asked_for() -> Result<(), TrainError> {
        for (depth_scaled, expected) in [(false, [0.02_f32, 0.02]), (true, [0.02, 0.01])] {
            let set = vec!["tvr.target_std=0.02".to_owned(), format!("tvr.depth_scaled={depth_scaled}")];
            let settings = Settings::resolve(&Sources { set, ..Sources::default() })?.tvr;
            let target = |layer: usize| {
                let kind = ParameterKind::Matrix { layer, into_stream: false, gain: 1.0 };
                target_of(&settings, &ParameterSpec { name: "w".to_owned(), shape: vec![8, 4], kind })
            };
            assert_eq!([target(0), target(3)], expected);
        }
        Ok(())
    }

    #[test]
    fn checks_come_after_one_and_every_interval() {
        let due = |interval| (1..=160).filter(|&step| is_due(interval, step)).collect::<Vec<u64>>();
        assert_eq!(due(50), [51, 101, 151]);
        assert_eq!(due(1)[..3], [2, 3, 4]);
    }
}
