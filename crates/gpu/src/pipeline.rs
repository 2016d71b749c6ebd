//! Pipelines from cards: everything that wgpu wants to know of a kernel is reflected from its WGSL.

use std::{
    collections::HashMap,
    num::NonZeroU64,
    ptr,
    sync::{Arc, PoisonError},
};

use evenkeel_shaders::{Card, Form, Needs, Reflection, Variant, reflect};
use wgpu::{BindGroupLayoutEntry, BindingType, BufferBindingType, BufferUsages, ShaderStages};

use crate::{
    Gpu, GpuError,
    beside::Beside,
    platform::{self, Outcome},
    wait::Signal,
};

/// By the addresses of card and variant: broken copies of a kernel in a test share its names.
pub(crate) type PipelineCache = HashMap<(usize, usize, Form), Arc<Pipeline>>;

/// What is compiled: one variant of a kernel, in one form.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Kernel.
    pub card: &'static Card,
    /// Of the card's.
    pub variant: &'static Variant,
    /// What it stores in half precision.
    pub form: Form,
}

impl Kernel {
    /// A variant that stores nothing in half precision.
    pub fn f32(card: &'static Card, variant: &'static Variant) -> Self {
        Self { card, variant, form: Form::F32 }
    }

    fn key(&self) -> (usize, usize, Form) {
        (ptr::from_ref(self.card).addr(), ptr::from_ref(self.variant).addr(), self.form)
    }
}

/// What stands in the params of a kernel's first dispatch, which has no workgroups. lavapipe looks at the values that
/// loops and branches depend on, compiles for them where that shortens the kernel by half, and compiles again for
/// others: with zeros here, matrix products would be compiled a second time in the first step.
const WARM_UP_PARAM: u32 = 1 << 20;

/// A compiled variant.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) compute: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
    pub(crate) reflection: Reflection,
}

/// A pipeline, and what the error scope around it caught.
type Created = Result<(Pipeline, Outcome), GpuError>;

impl Pipeline {
    /// Binds the arguments in the card's order, then the params.
    pub(crate) fn bind<'a>(
        &self,
        gpu: &Gpu,
        label: &str,
        bindings: impl IntoIterator<Item = wgpu::BufferBinding<'a>>,
    ) -> wgpu::BindGroup {
        let entries: Vec<_> = (0..)
            .zip(bindings)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(buffer) })
            .collect();
        gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(label),
            layout: &self.layout,
            entries: &entries,
        })
    }
}

impl Gpu {
    /// Compiles the variants that are not compiled yet, from all cores, and has the driver finish its part: some
    /// drivers run their code generator at the first dispatch, so each gets one of no workgroups. `progress` is told
    /// how many of how many are done.
    ///
    /// # Errors
    /// The first one that any variant gives; what compiled stays.
    pub async fn compile(&self, kernels: &[Kernel], mut progress: impl FnMut(usize, usize)) -> Result<(), GpuError> {
        self.check()?;
        let mut missing = Vec::new();
        for &kernel in kernels {
            let known = self.cached(kernel).is_some();
            if !known && !missing.iter().any(|other: &Kernel| other.key() == kernel.key()) {
                missing.push(kernel);
            }
        }
        // Compiling and warming up are halves of the work.
        let total = missing.len();
        let mut halves = 0;
        let mut half = || {
            halves += 1;
            progress(halves / 2, total);
        };
        let mut created = platform::parallel(total, |i| self.create(missing[i]), &mut half);
        let mut beside = Beside::begin(self, &missing).await;
        while let Some(i) = beside.next() {
            self.finish(missing[i], created[i].take()).await?;
            half();
        }
        beside.join();
        for (kernel, created) in missing.into_iter().zip(created).filter(|(_, created)| created.is_some()) {
            self.finish(kernel, created).await?;
            half();
        }
        Ok(())
    }

    /// Has the driver finish its part of a kernel's pipeline, and keeps it.
    async fn finish(&self, kernel: Kernel, created: Option<Created>) -> Result<(), GpuError> {
        let Some(created) = created else { return Ok(()) };
        let (pipeline, outcome) = created?;
        outcome.await?;
        self.warm_up(kernel.card.name, &pipeline).await?;
        let mut cache = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(kernel.key(), Arc::new(pipeline));
        Ok(())
    }

    /// Compiles one kernel.
    pub(crate) async fn prepare(&self, kernel: Kernel) -> Result<(), GpuError> {
        self.finish(kernel, Some(self.create(kernel))).await
    }

    fn cached(&self, kernel: Kernel) -> Option<Arc<Pipeline>> {
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner).get(&kernel.key()).cloned()
    }

    /// The pipeline of a variant, compiled at the first call.
    pub(crate) async fn pipeline(&self, kernel: Kernel) -> Result<Arc<Pipeline>, GpuError> {
        if self.cached(kernel).is_none() {
            self.compile(&[kernel], |_, _| ()).await?;
        }
        let ended = || self.refused(kernel.card.name, "the compiler ended early".to_owned());
        self.cached(kernel).ok_or_else(ended)
    }

    /// Needs that the device does not meet are named before any driver sees the kernel.
    fn create(&self, Kernel { card, variant, form }: Kernel) -> Created {
        let unsupported = |feature| GpuError::Unsupported {
            kernel: card.name,
            variant: variant.name,
            feature,
            adapter: self.summary.to_string(),
        };
        if form.native() && !self.device.features().contains(wgpu::Features::SHADER_F16) {
            return Err(unsupported("shader-f16".to_owned()));
        }
        if let Needs::CooperativeMatrix { side } = variant.needs
            && !variant.able(&self.profile())
        {
            return Err(unsupported(format!("cooperative matrices of {side} x {side}, f16 into f32")));
        }
        let reflection = reflect(card, variant, form)?;
        let wants_size = reflection.module.overrides.iter().any(|(_, known)| known.name.as_deref() == Some("SUBGROUP"));
        let size = self.profile().subgroup_size;
        let lanes = match variant.needs {
            Needs::Subgroup { min, max } => Some(min..=max),
            Needs::SubgroupBarrier { lanes } => Some(lanes..=lanes),
            Needs::Nothing | Needs::CooperativeMatrix { .. } => wants_size.then_some(1..=u32::MAX),
        };
        if let Some(lanes) = lanes.filter(|lanes| !size.is_some_and(|size| lanes.contains(&size))) {
            return Err(unsupported(format!("subgroups of a fixed size in {}..={}", lanes.start(), lanes.end())));
        }
        let mut constants = variant.overrides.to_vec();
        if let Some(size) = size.filter(|_| wants_size) {
            constants.push(("SUBGROUP", f64::from(size)));
        }
        let what = format!("{} ({})", card.name, variant.name);
        let ((compute, layout), outcome) =
            self.scoped(&what, 0, || self.build(card.name, &what, &reflection, &constants));
        Ok((Pipeline { compute, layout, reflection }, outcome))
    }

    fn build(
        &self,
        entry_point: &str,
        label: &str,
        reflection: &Reflection,
        constants: &[(&str, f64)],
    ) -> (wgpu::ComputePipeline, wgpu::BindGroupLayout) {
        let label = Some(label);
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &layout_entries(reflection) });
        let source = wgpu::ShaderSource::Wgsl(reflection.source.as_str().into());
        // Without naga's clamps and counters, which keep drivers from unrolling loops over register tiles: on lavapipe
        // they cost matmuls a factor of 7 to 13.
        // SAFETY: the text is a card's. The harness runs every variant between guard words, and its loops end.
        let module = unsafe {
            self.device.create_shader_module_trusted(
                wgpu::ShaderModuleDescriptor { label, source },
                wgpu::ShaderRuntimeChecks::unchecked(),
            )
        };
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let compute = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(entry_point),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                // Kernels write workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        (compute, layout)
    }

    async fn warm_up(&self, kernel: &str, pipeline: &Pipeline) -> Result<(), GpuError> {
        let usage = BufferUsages::STORAGE | BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let read = self.buffer("warm-up", 256, usage).await?;
        let written = self.buffer("warm-up", 256, BufferUsages::STORAGE).await?;
        let ended = Signal::new();
        let ((), outcome) = self.scoped(kernel, 0, || {
            self.queue.write_buffer(&read, 0, bytemuck::cast_slice(&[WARM_UP_PARAM; 64]));
            let storage = pipeline.reflection.storage.iter().map(|binding| binding.writable);
            let buffers = storage.map(|writable| if writable { &written } else { &read }).chain([&read]);
            let group = pipeline.bind(self, kernel, buffers.map(wgpu::Buffer::as_entire_buffer_binding));
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline.compute);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(0, 0, 0);
            drop(pass);
            self.submit(encoder.finish(), &ended)
        });
        outcome.await?;
        self.wait_for(&ended, kernel).await.map(|_| ())
    }
}

fn layout_entries(reflection: &Reflection) -> Vec<BindGroupLayoutEntry> {
    let storage = reflection.storage.iter().map(|binding| {
        // The stride of an array of three-component vectors is that of four.
        let stride = binding.element.dtype.size() as u32 * binding.element.width.next_power_of_two();
        (BufferBindingType::Storage { read_only: !binding.writable }, stride)
    });
    let bindings = storage.chain([(BufferBindingType::Uniform, reflection.params_size)]);
    (0..)
        .zip(bindings)
        .map(|(binding, (ty, size))| BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer {
                ty,
                has_dynamic_offset: false,
                min_binding_size: NonZeroU64::new(u64::from(size)),
            },
            count: None,
        })
        .collect()
}
