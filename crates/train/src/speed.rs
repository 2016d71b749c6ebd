//! How fast a device trains: whole steps of presets, and the two ceilings that its kernels stay below.

use std::time::{Duration, Instant};

use evenkeel_gpu::Kernel;
use evenkeel_schedule::Phase;
use evenkeel_shaders::{
    Access, Card, Class, CpuArgs, CpuSlice, Params, Precision, matmul_nn, matmul_nt, matmul_tn, scale,
};

use crate::{
    Compute, Executor, Setup, StepRecord, TrainError, Trainer,
    settings::{self, Arch, Settings, Sources},
};

/// Timed samples: an odd number, for the median.
const SAMPLES: usize = 5;
/// How long one kernel is timed at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// Elements of the copy: 64 MiB, beyond all caches but the largest.
const COPIED: usize = 1 << 24;

/// A model of a preset's shape on its device, with TVR, that trains on the stories.
#[derive(Debug)]
pub struct Bench {
    /// LLaMA or KAT.
    pub arch: Arch,
    /// Precision of its training.
    pub precision: settings::Precision,
    /// What runs it.
    pub executor: Executor,
    /// What drives it.
    pub trainer: Trainer,
    /// Seconds from the settings to the end of the first step.
    pub first_step: f64,
    done: u64,
}

impl Bench {
    /// Places the model and trains one step.
    ///
    /// # Errors
    /// An unknown preset, memory or limits that do not suffice, a kernel that the driver refuses.
    pub async fn new(
        arch: Arch,
        preset: &str,
        precision: settings::Precision,
        compute: &Compute,
    ) -> Result<Self, TrainError> {
        let set = vec![
            format!("model.preset={preset}"),
            format!("model.arch={}", arch.name()),
            format!("train.precision={}", precision.name()),
            "tvr.enabled=true".to_owned(),
            // Kernels do not see what the ids stand for.
            "data.tokenizer=bytes".to_owned(),
        ];
        let settings = Settings::resolve(&Sources { set, ..Sources::default() })?;
        let start = Instant::now();
        let setup = Setup::new(&settings, compute)?;
        compute.fits(&setup.program.schedule)?;
        let weights = setup.weights.load(&setup.config)?;
        let executor = setup.program.prepare(compute, &weights, &mut |_, _| ()).await?;
        let trainer = Trainer::new(&setup.program, setup.batches, 1)?;
        let mut bench = Self { arch, precision, executor, trainer, first_step: 0.0, done: 0 };
        bench.step().await?;
        bench.first_step = start.elapsed().as_secs_f64();
        Ok(bench)
    }

    /// Trains one step; its seconds.
    ///
    /// # Errors
    /// A device that is lost.
    pub async fn step(&mut self) -> Result<f64, TrainError> {
        let records = self.steps(1).await?;
        Ok(records.iter().map(|record| record.time.as_secs_f64()).sum())
    }

    /// Trains some steps, each begun while the one before it runs, as a run does.
    ///
    /// # Errors
    /// A device that is lost.
    pub async fn steps(&mut self, count: usize) -> Result<Vec<StepRecord>, TrainError> {
        let last = self.done + count as u64;
        let mut records = Vec::with_capacity(count);
        while self.done < last {
            self.done += 1;
            for step in self.done..=last.min(self.done + 1) {
                if self.trainer.begun().is_none_or(|begun| begun < step) {
                    self.trainer.begin(step, 1e-3, false);
                }
            }
            records.push(self.trainer.record(&mut self.executor).await?);
        }
        Ok(records)
    }

    /// Dispatches of a training step; on the CPU, kernels.
    pub fn dispatches(&self) -> usize {
        let phases = [Phase::Begin, Phase::ForwardBackward, Phase::Update];
        let of = |phase| match &self.executor {
            Executor::Cpu(cpu) => cpu.schedule().phase(phase).len(),
            Executor::Gpu(gpu) => gpu.dispatches(phase),
        };
        phases.into_iter().map(of).sum()
    }

    /// Planned bytes, all of them allocated.
    pub fn planned_bytes(&self) -> u64 {
        self.executor.schedule().memory().total_bytes()
    }

    /// Bytes that the device's allocator has given out, where it says so.
    pub fn allocated_bytes(&self) -> Option<u64> {
        let Executor::Gpu(gpu) = &self.executor else { return None };
        gpu.gpu().allocator_report().map(|report| report.allocated_bytes)
    }
}

/// What kernels can reach at best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Bytes read and written per second by a scaling of 64 MiB.
    pub copy_bytes_per_s: f64,
    /// Floating-point operations per second of the best of the three products of square matrices.
    pub matmul_flop_per_s: f64,
    /// Their extent, that of [`matmul_extent`].
    pub matmul_extent: usize,
}

/// The extent of the square products that are a device's ceiling: on discrete GPUs, which have cores for more workgroups
/// than 1024 x 1024 outputs make, 4096.
pub fn matmul_extent(class: Class) -> usize {
    if class == Class::Discrete { 4096 } else { 1024 }
}

/// Measures them.
///
/// # Errors
/// A device that is lost, or has too little memory for the copy.
pub async fn ceilings(compute: &Compute) -> Result<Ceilings, TrainError> {
    let copied = Params::dims([("N", COPIED)]).with_scalar("alpha", 1.0);
    let copy_bytes_per_s =
        scale::CARD.bytes(&copied, Precision::F32) as f64 / seconds(compute, &scale::CARD, &copied).await?;
    let mut matmul_flop_per_s = 0.0_f64;
    let matmul_extent = match compute {
        Compute::Gpu(gpu) => matmul_extent(gpu.profile().class),
        Compute::Cpu => matmul_extent(Class::Software),
    };
    for (card, stride) in
        [(&matmul_nn::CARD, "x_stride"), (&matmul_nt::CARD, "y_stride"), (&matmul_tn::CARD, "x_stride")]
    {
        let square = ["M", "N", "K", stride].map(|name| (name, matmul_extent));
        let square = Params::dims(square).with_dim("accumulate", 0);
        let rate = (card.flops)(&square) as f64 / seconds(compute, card, &square).await?;
        matmul_flop_per_s = matmul_flop_per_s.max(rate);
    }
    Ok(Ceilings { copy_bytes_per_s, matmul_flop_per_s, matmul_extent })
}

/// Median time of a kernel whose arguments are f32, in the variant that a step would use.
async fn seconds(compute: &Compute, card: &'static Card, params: &Params) -> Result<f64, TrainError> {
    let number = |i: usize| 0.01 * ((i % 97) as f32 - 48.0);
    let mut values: Vec<Vec<f32>> = card.args.iter().map(|arg| (0..arg.len(params)).map(number).collect()).collect();
    let mut times = match compute {
        Compute::Cpu => (0..SAMPLES).map(|_| on_cpu(card, params, &mut values)).collect(),
        Compute::Gpu(gpu) => {
            let variant = card.variant(&gpu.profile(), params, Precision::F32);
            let variant = variant.ok_or(TrainError::Program { part: card.name })?;
            let arguments: Vec<Vec<u8>> = values.iter().map(|values| bytemuck::cast_slice(values).to_vec()).collect();
            gpu.time_dispatch(Kernel::f32(card, variant), params, &arguments, SAMPLES, PATIENCE).await?
        }
    };
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn on_cpu(card: &Card, params: &Params, values: &mut [Vec<f32>]) -> f64 {
    let mut args = CpuArgs::default();
    for (arg, values) in card.args.iter().zip(values) {
        let slice = if arg.access == Access::Read { CpuSlice::F32(values) } else { CpuSlice::F32Mut(values) };
        args.bind(arg.name, slice);
    }
    let start = Instant::now();
    (card.cpu)(params, args);
    start.elapsed().as_secs_f64()
}
