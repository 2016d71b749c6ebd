//! What a schedule runs on: a GPU through wgpu, or this process's CPU cores. One interface, the same schedule.

use std::{sync::Arc, time::Duration};

use evenkeel_gpu::{Gpu, GpuExecutor, Progress, Readback};
use evenkeel_schedule::{CpuExecutor, DType, Phase, Schedule, StepTime, TensorId};
use evenkeel_shaders::{Class, Device};
use half::f16;

use crate::TrainError;

/// Largest binding where no adapter sets one: the planner's chunks and windows stay as on a GPU.
const CPU_BINDING_LIMIT: u64 = 1 << 31;

/// Where to compute.
#[derive(Clone, Debug)]
pub enum Compute {
    /// The CPU executor.
    Cpu,
    /// A wgpu device.
    Gpu(Arc<Gpu>),
}

/// Names of what computes, as checkpoints and the first line of a run state them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputeName {
    /// Adapter.
    pub adapter: String,
    /// Its driver.
    pub driver: String,
    /// Its API.
    pub backend: String,
}

impl Compute {
    /// Bytes of the largest tensor.
    pub fn binding_limit(&self) -> u64 {
        match self {
            Self::Cpu => CPU_BINDING_LIMIT,
            Self::Gpu(gpu) => gpu.binding_limit(),
        }
    }

    /// What the choice of variants depends on; the CPU executor has none.
    pub fn device(&self) -> Device {
        match self {
            Self::Cpu => Device::PORTABLE,
            Self::Gpu(gpu) => gpu.profile(),
        }
    }

    /// Who computes.
    pub fn name(&self) -> ComputeName {
        match self {
            Self::Cpu => ComputeName {
                adapter: "cpu".to_owned(),
                driver: format!("evenkeel {}", env!("CARGO_PKG_VERSION")),
                backend: "cpu".to_owned(),
            },
            Self::Gpu(gpu) => {
                let adapter = gpu.adapter();
                ComputeName {
                    adapter: adapter.name.clone(),
                    driver: format!("{} {}", adapter.driver, adapter.driver_info).trim().to_owned(),
                    backend: adapter.backend.to_string(),
                }
            }
        }
    }

    /// Whether a schedule's memory fits: on a device that shares the system's memory, into what is free there now. How
    /// much a discrete GPU has, wgpu does not say: there only its limits are checked.
    ///
    /// # Errors
    /// What does not fit.
    pub fn fits(&self, schedule: &Schedule) -> Result<(), TrainError> {
        let planned = schedule.memory().total_bytes();
        if let Self::Gpu(gpu) = self
            && gpu.profile().class == Class::Discrete
        {
            return Ok(());
        }
        match free_memory() {
            Some(free) if free < planned => Err(TrainError::Memory { planned, free }),
            _ => Ok(()),
        }
    }

    /// Allocates a schedule's memory and prepares its kernels; `progress` hears of (kernels ready, kernels).
    ///
    /// # Errors
    /// Memory or limits that do not suffice, a kernel that the driver refuses.
    pub async fn prepare(
        &self,
        schedule: Arc<Schedule>,
        progress: &mut (dyn FnMut(usize, usize) + Send),
    ) -> Result<Executor, TrainError> {
        self.fits(&schedule)?;
        Ok(match self {
            Self::Cpu => Executor::Cpu(CpuExecutor::new(schedule)),
            Self::Gpu(gpu) => Executor::Gpu(GpuExecutor::new(Arc::clone(gpu), schedule, progress).await?),
        })
    }
}

/// A schedule ready to run.
#[derive(Debug)]
pub enum Executor {
    /// On the CPU.
    Cpu(CpuExecutor),
    /// On a wgpu device.
    Gpu(GpuExecutor),
}

impl Executor {
    /// What it runs.
    pub fn schedule(&self) -> &Arc<Schedule> {
        match self {
            Self::Cpu(cpu) => cpu.schedule(),
            Self::Gpu(gpu) => gpu.schedule(),
        }
    }

    /// Whether the host goes on while phases run.
    pub fn overlaps(&self) -> bool {
        matches!(self, Self::Gpu(_))
    }

    /// Time inside of the driver's submits since the last call.
    pub fn take_submitting(&mut self) -> Duration {
        match self {
            Self::Cpu(_) => Duration::ZERO,
            Self::Gpu(gpu) => gpu.take_submitting(),
        }
    }

    /// Overwrites a tensor.
    ///
    /// # Errors
    /// Data of another size; a device that is lost.
    pub fn write<T: bytemuck::NoUninit>(&mut self, tensor: TensorId, values: &[T]) -> Result<(), TrainError> {
        let bytes = bytemuck::cast_slice(values);
        match self {
            Self::Cpu(cpu) => cpu.write(tensor, bytes)?,
            Self::Gpu(gpu) => gpu.write(tensor, bytes)?,
        }
        Ok(())
    }

    /// Reads a float tensor, after everything that runs before it; half precision is widened.
    ///
    /// # Errors
    /// A device that is lost.
    pub async fn read(&mut self, tensor: TensorId) -> Result<Vec<f32>, TrainError> {
        let bytes = match self {
            Self::Cpu(cpu) => cpu.read(tensor),
            Self::Gpu(gpu) => gpu.read(tensor).await?,
        };
        Ok(match self.schedule().tensor(tensor).dtype {
            DType::F16 => {
                let bits: Vec<u16> = bytemuck::pod_collect_to_vec(&bytes);
                bits.into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect()
            }
            DType::F32 | DType::U32 => bytemuck::pod_collect_to_vec(&bytes),
        })
    }

    /// Runs a phase: on a GPU it is submitted when this returns, not done.
    ///
    /// # Errors
    /// A device that is lost.
    pub async fn run(&mut self, phase: Phase) -> Result<(), TrainError> {
        match self {
            Self::Cpu(cpu) => cpu.run(phase),
            Self::Gpu(gpu) => gpu.run(phase).await?,
        }
        Ok(())
    }

    /// Reads an f32 tensor as it is after the phase that was started last, without waiting: [`Late::poll`] has it once it
    /// is there.
    ///
    /// # Errors
    /// A device that is lost, memory.
    pub fn read_later(&mut self, tensor: TensorId) -> Result<Late, TrainError> {
        let source = match self {
            Self::Cpu(cpu) => Source::There(cpu.read(tensor)),
            Self::Gpu(gpu) => Source::Device(Box::new(gpu.read_later(tensor)?)),
        };
        Ok(Late { source, values: Vec::new(), arrived: evenkeel_gpu::now() })
    }

    /// Starts a phase, of which [`Executor::advance`] submits what there is room for. The CPU executor runs it at once.
    ///
    /// # Errors
    /// A phase before that was not advanced to its end.
    pub fn start(&mut self, phase: Phase) -> Result<(), TrainError> {
        match self {
            Self::Cpu(cpu) => cpu.run(phase),
            Self::Gpu(gpu) => gpu.start(phase)?,
        }
        Ok(())
    }

    /// Goes on with the phase that was started, within what keeps the device busy for about `budget`; never waits.
    ///
    /// # Errors
    /// A device that is lost.
    pub fn advance(&mut self, budget: Duration) -> Result<Progress, TrainError> {
        match self {
            Self::Cpu(_) => Ok(Progress::Done),
            Self::Gpu(gpu) => Ok(gpu.advance(budget)?),
        }
    }

    /// Waits until the device has ended what it was given first, and so has room for more.
    ///
    /// # Errors
    /// A device that is lost or hangs.
    pub async fn room(&mut self) -> Result<(), TrainError> {
        match self {
            Self::Cpu(_) => Ok(()),
            Self::Gpu(gpu) => Ok(gpu.room().await?),
        }
    }

    /// Forgets what is left of the phase that was started, and waits until the device has nothing to do.
    ///
    /// # Errors
    /// A device that is lost or hangs.
    pub async fn abandon(&mut self) -> Result<(), TrainError> {
        let Self::Gpu(gpu) = self else { return Ok(()) };
        gpu.abandon();
        Ok(gpu.wait().await?)
    }

    /// Begins to note when steps run, by the device's timestamps or the CPU's clock, or ends it.
    ///
    /// # Errors
    /// A device without timestamps.
    pub async fn record_times(&mut self, on: bool) -> Result<(), TrainError> {
        match self {
            Self::Cpu(cpu) => cpu.record_times(on),
            Self::Gpu(gpu) => gpu.record_times(on).await?,
        }
        Ok(())
    }

    /// What was noted since the last call.
    pub fn take_times(&mut self) -> Vec<StepTime> {
        match self {
            Self::Cpu(cpu) => cpu.take_times(),
            Self::Gpu(gpu) => gpu.take_times(),
        }
    }

    /// Runs one step of the schedule: the debugger's way.
    ///
    /// # Errors
    /// A device that is lost.
    pub async fn run_step(&mut self, index: usize) -> Result<(), TrainError> {
        match self {
            Self::Cpu(cpu) => cpu.run_step(index),
            Self::Gpu(gpu) => gpu.run_step(index).await?,
        }
        Ok(())
    }
}

/// Values on their way from the device.
#[derive(Debug)]
pub struct Late {
    source: Source,
    values: Vec<f32>,
    arrived: Duration,
}

#[derive(Debug)]
enum Source {
    Device(Box<Readback>),
    There(Vec<u8>),
    Taken,
}

impl Late {
    /// The values, once they are there; never waits.
    ///
    /// # Errors
    /// A device that is lost.
    pub fn poll(&mut self) -> Result<Option<&[f32]>, TrainError> {
        let bytes = match &mut self.source {
            Source::Taken => return Ok(Some(&self.values)),
            Source::There(bytes) => std::mem::take(bytes),
            Source::Device(readback) => {
                let Some(bytes) = readback.try_take()? else { return Ok(None) };
                self.arrived = readback.arrived();
                bytes
            }
        };
        self.values = bytemuck::pod_collect_to_vec(&bytes);
        self.source = Source::Taken;
        Ok(Some(&self.values))
    }

    /// When they were known to be there, by [`evenkeel_gpu::now`].
    pub fn arrived(&self) -> Duration {
        self.arrived
    }
}

/// Memory of the system that is free for a process, where the system says so.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
