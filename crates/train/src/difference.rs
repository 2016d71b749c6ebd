//! The project's debugger: one training step on an adapter and on the CPU executor, kernel by kernel.
//!
//! After each kernel the CPU's result replaces the adapter's, so every kernel is judged on equal inputs and errors do
//! not add up.

use std::fmt;

use evenkeel_schedule::{DType, Phase, View};
use evenkeel_shaders::Access;
use half::f16;

use crate::{Compute, Executor, Setup, TrainError, Trainer, settings::Settings};

/// Each of the two may be off by the card's tolerance; the difference by four times as much in squares.
const SQUARED_SHARE: f64 = 4.0;

/// Of results in half precision: where two sums that differ in f32's last bits lie on both sides of the middle between
/// two f16 numbers, those are 2^-10 apart.
const HALF_NMSE: f64 = 1.0 / (1 << 20) as f64;

/// A kernel whose results differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Index of the step in the schedule.
    pub step: usize,
    /// Kernel.
    pub kernel: &'static str,
    /// Which layer asked for it.
    pub scope: String,
    /// Tensor that differs.
    pub tensor: String,
    /// Mean of squared differences over mean of squares.
    pub nmse: f64,
    /// The largest that counts as equal.
    pub limit: f64,
}

/// Result of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Kernels compared.
    pub compared: usize,
    /// The first that differs.
    pub first: Option<Difference>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.first {
            None => write!(f, "{} kernels agree with the CPU executor", self.compared),
            Some(d) => write!(
                f,
                "step {}: {} in {}: {}: expected a relative squared difference of at most {:.1e}, got {:.1e}",
                d.step, d.kernel, d.scope, d.tensor, d.limit, d.nmse
            ),
        }
    }
}

/// Compares the first training step of a run.
///
/// # Errors
/// Those of preparing and running it.
pub async fn compare(settings: &Settings, compute: &Compute) -> Result<Report, TrainError> {
    let setup = Setup::new(settings, compute)?;
    let weights = setup.weights.load(&setup.config)?;
    let mut adapter = setup.program.prepare(compute, &weights, &mut |_, _| ()).await?;
    let mut cpu = setup.program.prepare(&Compute::Cpu, &weights, &mut |_, _| ()).await?;
    let mut trainer = Trainer::new(&setup.program, setup.batches, settings.train.grad_accumulation as u32)?;
    for executor in [&mut adapter, &mut cpu] {
        trainer.write_step(executor, 1, settings.optimizer.lr)?;
        trainer.write_batch(executor, 1, 0)?;
    }
    let mut report = Report { compared: 0, first: None };
    for phase in [Phase::Begin, Phase::ForwardBackward, Phase::Update] {
        for index in setup.program.schedule.phase(phase) {
            adapter.run_step(index).await?;
            cpu.run_step(index).await?;
            report.compared += 1;
            report.first = compare_outputs(&mut adapter, &mut cpu, index).await?;
            if report.first.is_some() {
                return Ok(report);
            }
        }
    }
    Ok(report)
}

async fn compare_outputs(
    adapter: &mut Executor,
    cpu: &mut Executor,
    index: usize,
) -> Result<Option<Difference>, TrainError> {
    let schedule = cpu.schedule().clone();
    let step = &schedule.steps()[index];
    for (access, view) in step.accesses() {
        if access == Access::Read {
            continue;
        }
        let half = schedule.tensor(view.tensor).dtype == DType::F16;
        let variant = match adapter {
            Executor::Gpu(gpu) => step.card.variant(&gpu.gpu().profile(), &step.params, step.precision),
            Executor::Cpu(_) => None,
        };
        let cut_off = variant.map_or(0.0, |variant| variant.cut_off(&step.params));
        let limit = SQUARED_SHARE * (step.card.nmse + cut_off) + if half { HALF_NMSE } else { 0.0 };
        let expected = cpu.read(view.tensor).await?;
        let nmse = nmse(&adapter.read(view.tensor).await?, &expected, view);
        if half {
            let halves: Vec<u16> = expected.iter().map(|&value| f16::from_f32(value).to_bits()).collect();
            adapter.write(view.tensor, &halves)?;
        } else {
            adapter.write(view.tensor, &expected)?;
        }
        if nmse > limit || nmse.is_nan() {
            return Ok(Some(Difference {
                step: index,
                kernel: step.card.name,
                scope: step.scope.clone(),
                tensor: schedule.tensor(view.tensor).name.clone(),
                nmse,
                limit,
            }));
        }
    }
    Ok(None)
}

fn nmse(got: &[f32], expected: &[f32], view: View) -> f64 {
    let range = view.offset..view.offset + view.len;
    let pairs = got[range.clone()].iter().zip(&expected[range]);
    let (mut errors, mut squares) = (0.0, 0.0);
    for (got, expected) in pairs {
        let (got, expected) = (f64::from(*got), f64::from(*expected));
        errors += (got - expected).powi(2);
        squares += expected.powi(2);
    }
    if errors == 0.0 { 0.0 } else { errors / squares }
}
