//! A schedule on a device: all memory allocated, all pipelines compiled, everything bound, before the first step.

use evenkeel_schedule::{Schedule, Step};
use evenkeel_shaders::{Form, Needs};
use wgpu::{Buffer, BufferBinding, BufferUsages};

use crate::{
    Gpu, GpuError,
    grid::{Piece, pieces},
    pace::{dispatches, estimate},
    params,
    pipeline::{Kernel, Pipeline},
    wait::Signal,
};

/// One dispatch, ready to be recorded.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) group: wgpu::BindGroup,
    pub(crate) x: u32,
    pub(crate) y: u32,
    /// Estimated seconds, uncorrected.
    pub(crate) seconds: f64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Plan {
    /// By planned buffer.
    pub(crate) buffers: Vec<Buffer>,
    /// Of all steps, in order.
    pub(crate) dispatches: Vec<Dispatch>,
    /// First dispatch of every step, and the end.
    pub(crate) first_of_step: Vec<usize>,
}

/// A piece of a step before it is bound.
struct Part<'a> {
    step: &'a Step,
    pipeline: std::sync::Arc<Pipeline>,
    piece: Piece,
    seconds: f64,
    /// Where its params lie in the uniform buffer.
    slot: u64,
}

impl Plan {
    /// Memory first: what does not fit is said before minutes go into compiling.
    pub(crate) async fn new(
        gpu: &Gpu,
        schedule: &Schedule,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self, GpuError> {
        let buffers = allocate(gpu, schedule).await?;
        let kernels = kernels(gpu, schedule).await?;
        gpu.compile(&kernels, progress).await?;
        let mut uniform = Vec::new();
        let mut parts = Vec::new();
        let mut first_of_step = vec![0];
        for (step, kernel) in schedule.steps().iter().zip(&kernels) {
            let pipeline = gpu.pipeline(*kernel).await?;
            split(gpu, step, *kernel, &pipeline, &mut uniform, &mut parts)?;
            first_of_step.push(parts.len());
        }
        let uniform = upload(gpu, uniform).await?;
        let (dispatches, outcome) = gpu.scoped("bind groups", 0, || {
            parts.iter().map(|part| bind(gpu, schedule, &buffers, &uniform, part)).collect()
        });
        outcome.await?;
        Ok(Self { buffers, dispatches, first_of_step })
    }
}

/// What runs every step. The first schedule that would use cooperative matrices is the one that waits for their test.
async fn kernels(gpu: &Gpu, schedule: &Schedule) -> Result<Vec<Kernel>, GpuError> {
    let choose = || schedule.steps().iter().map(|step| kernel(gpu, step)).collect::<Result<Vec<_>, _>>();
    let chosen = choose()?;
    if !chosen.iter().any(|kernel| matches!(kernel.variant.needs, Needs::CooperativeMatrix { .. })) {
        return Ok(chosen);
    }
    gpu.test_cooperative_matrices().await;
    choose()
}

fn kernel(gpu: &Gpu, step: &Step) -> Result<Kernel, GpuError> {
    let variant =
        step.card.variant(&gpu.profile(), &step.params, step.precision).ok_or_else(|| GpuError::Unsupported {
            kernel: step.card.name,
            variant: "all variants",
            feature: format!("one for {} in {}", step.params, step.precision),
            adapter: gpu.summary.to_string(),
        })?;
    Ok(Kernel { card: step.card, variant, form: Form::of(step.precision, &gpu.profile()) })
}

/// All planned memory, zeroed, so that the driver has really given it.
async fn allocate(gpu: &Gpu, schedule: &Schedule) -> Result<Vec<Buffer>, GpuError> {
    for planned in schedule.memory().buffers() {
        gpu.within("maxStorageBufferBindingSize", &planned.label, gpu.binding_limit(), planned.bytes)?;
    }
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let mut buffers = Vec::with_capacity(schedule.memory().buffers().len());
    for planned in schedule.memory().buffers() {
        buffers.push(gpu.buffer(&planned.label, planned.bytes, usage).await?);
    }
    let ended = Signal::new();
    let ((), outcome) = gpu.scoped("memory", schedule.memory().total_bytes(), || {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for buffer in &buffers {
            encoder.clear_buffer(buffer, 0, None);
        }
        gpu.submit(encoder.finish(), &ended)
    });
    outcome.await?;
    gpu.wait_for(&ended, "clearing memory").await?;
    Ok(buffers)
}

/// Splits a step's grid where it might take too long, and appends the params of its parts to `uniform`.
fn split<'a>(
    gpu: &Gpu,
    step: &'a Step,
    kernel: Kernel,
    pipeline: &std::sync::Arc<Pipeline>,
    uniform: &mut Vec<u8>,
    parts: &mut Vec<Part<'a>>,
) -> Result<(), GpuError> {
    let groups = gpu.groups(kernel, &step.params)?;
    let class = gpu.profile().class;
    let seconds = estimate(step, class);
    for piece in pieces(groups, groups.div_ceil(dispatches(seconds, groups, class))) {
        let slot = uniform.len().next_multiple_of(gpu.limits.min_uniform_buffer_offset_alignment as usize);
        uniform.resize(slot, 0);
        uniform.extend(params::encode(step.card.name, &pipeline.reflection, &step.params, groups, piece.offset)?);
        let share = f64::from(piece.x) * f64::from(piece.y) / f64::from(groups);
        parts.push(Part { step, pipeline: pipeline.clone(), piece, seconds: seconds * share, slot: slot as u64 });
    }
    Ok(())
}

async fn upload(gpu: &Gpu, mut uniform: Vec<u8>) -> Result<Buffer, GpuError> {
    uniform.resize(uniform.len().next_multiple_of(16).max(16), 0);
    let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
    let buffer = gpu.buffer("params", uniform.len() as u64, usage).await?;
    let ((), outcome) = gpu.scoped("params", buffer.size(), || gpu.queue.write_buffer(&buffer, 0, &uniform));
    outcome.await?;
    Ok(buffer)
}

fn bind(gpu: &Gpu, schedule: &Schedule, buffers: &[Buffer], uniform: &Buffer, part: &Part<'_>) -> Dispatch {
    let binding = |buffer, offset, size: u64| BufferBinding { buffer, offset, size: std::num::NonZeroU64::new(size) };
    let views = part.step.views.iter().map(|view| {
        let (buffer, bytes) = schedule.place(*view);
        // A vec4 view of an odd number of elements: planned buffers and arenas are padded to more than that.
        binding(&buffers[buffer], bytes.start as u64, (bytes.len() as u64).next_multiple_of(16))
    });
    let params = binding(uniform, part.slot, u64::from(part.pipeline.reflection.params_size));
    Dispatch {
        pipeline: part.pipeline.compute.clone(),
        group: part.pipeline.bind(gpu, part.step.card.name, views.chain([params])),
        x: part.piece.x,
        y: part.piece.y,
        seconds: part.seconds,
    }
}
