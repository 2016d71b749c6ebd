//! Statistics of many tensors in one chain of dispatches: a table of segments says where each lies in its arena.

use evenkeel_model::ParameterSpec;
use evenkeel_schedule::{DType, Params, Recorder, Role, ScheduleError, TensorId};
use evenkeel_shaders::{segment, segment_moments, segment_statistics, segment_sum};

/// The parameters of one arena that a chain of dispatches works on.
#[derive(Clone, Debug)]
pub(crate) struct Segments {
    /// (SEG, 2), u32: offset and length of each.
    pub(crate) table: TensorId,
    /// What the host writes there, once.
    pub(crate) values: Vec<u32>,
    /// Index of the arena among the trainable ones.
    pub(crate) arena: usize,
    /// Each segment's index in the model's parameters.
    pub(crate) members: Vec<usize>,
}

/// Statistics of one segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Statistics {
    pub(crate) mean: f64,
    /// With N - 1.
    pub(crate) std: f64,
    pub(crate) absmax: f64,
    /// m4 / m2^2.
    pub(crate) kurtosis: f64,
}

impl Segments {
    /// The trainable parameters that are `wanted`, one table for each arena that has any.
    pub(crate) fn declare(
        r: &mut Recorder,
        prefix: &str,
        parameters: &[ParameterSpec],
        wanted: impl Fn(&ParameterSpec) -> bool,
    ) -> Result<Vec<Self>, ScheduleError> {
        let mut all = Vec::new();
        for (arena, root) in r.parameter_arenas().into_iter().enumerate() {
            let (mut values, mut members) = (Vec::new(), Vec::new());
            for (index, spec) in parameters.iter().enumerate().filter(|(_, spec)| wanted(spec)) {
                if let Some((_, offset)) = r.tensor(r.find(&spec.name)?).within.filter(|(within, _)| *within == root) {
                    values.extend([offset as u32, spec.elements() as u32]);
                    members.push(index);
                }
            }
            if !members.is_empty() {
                let name = format!("{prefix}.segments.{arena}");
                let shape = [("SEG", members.len()), ("N", 2)];
                let table = r.new_tensor(&name, Role::Constant, DType::U32, &shape)?;
                all.push(Self { table, values, arena, members });
            }
        }
        Ok(all)
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }
}

/// Records the statistics of the `count` segments of `x` that `table` names: (SEG, 4), by
/// `segment_statistics::slots`.
pub(crate) fn statistics(
    r: &mut Recorder,
    x: TensorId,
    table: TensorId,
    count: usize,
) -> Result<TensorId, ScheduleError> {
    let chunks = segment::CHUNKS;
    let n = r.tensor(x).len();
    let params = || Params::dims([("N", n), ("SEG", count), ("S", chunks)]);
    let partial = r.scratch("partial", &[("SEG", count), ("S", chunks)])?;
    r.run(&segment_sum::CARD, params(), &[x.into(), table.into(), partial.into()])?;
    let moments = r.scratch("moments", &[("SEG", count), ("S", chunks), ("N", 3)])?;
    r.run(&segment_moments::CARD, params(), &[x.into(), table.into(), partial.into(), moments.into()])?;
    let stats = r.scratch("statistics", &[("SEG", count), ("N", 4)])?;
    let params = Params::dims([("SEG", count), ("S", chunks)]);
    r.run(&segment_statistics::CARD, params, &[table.into(), partial.into(), moments.into(), stats.into()])?;
    Ok(stats)
}

impl Statistics {
    /// A row of (SEG, 4).
    pub(crate) fn from_row(row: &[f32]) -> Self {
        use segment_statistics::slots;
        let value = |slot: usize| f64::from(row[slot]);
        Self {
            mean: value(slots::MEAN),
            std: value(slots::STD),
            absmax: value(slots::ABSMAX),
            kurtosis: value(slots::KURTOSIS),
        }
    }
}
