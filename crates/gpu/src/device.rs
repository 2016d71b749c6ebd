//! A device and its queue, with every fault of theirs turned into a [`GpuError`].

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use evenkeel_shaders::Device;
use wgpu::{BufferUsages, CommandBuffer, Error, ErrorFilter, Limits};

use crate::{
    Adapter, AdapterSummary, GpuError,
    error::one_line,
    pipeline::PipelineCache,
    platform::{self, Outcome},
    wait::Signal,
};

/// How long a device may make no progress by default. A first dispatch includes the driver's compiler.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A device that computes. Share it in an `Arc`; all methods take `&self`.
#[derive(Debug)]
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) summary: AdapterSummary,
    pub(crate) limits: Limits,
    pub(crate) faults: Arc<Faults>,
    pub(crate) pipelines: Mutex<PipelineCache>,
    pub(crate) time_limit: Duration,
    /// What the test of cooperative matrices found, once it ran: why they are not to be used, if so.
    pub(crate) cooperative: OnceLock<Result<(), String>>,
    /// Where the device is not a host's.
    pub(crate) adapter_of_own: Option<Adapter>,
}

/// What callbacks of wgpu report between our calls.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    lost: Mutex<Option<String>>,
    uncaptured: Mutex<Option<String>>,
    pub(crate) ended: AtomicU64,
}

/// What the device's allocator holds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatorReport {
    /// Buffers, those of wgpu's own included.
    pub allocations: usize,
    /// In use by buffers.
    pub allocated_bytes: u64,
    /// Taken from the driver, unused parts of blocks included.
    pub reserved_bytes: u64,
}

impl Adapter {
    /// Opens a device of our own: `Limits::default()` raised to what the adapter offers where that helps, subgroups and
    /// timestamps where they are there, and cooperative matrices where the adapter has those that kernels use.
    ///
    /// # Errors
    /// [`GpuError::Open`].
    pub async fn open(&self) -> Result<Gpu, GpuError> {
        let (device, queue, summary) = self.request_device().await?;
        let faults = Arc::new(Faults::default());
        let keep = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: Error| {
            keep_first(&keep.uncaptured, wgpu_reason(&error));
        }));
        let keep = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            keep_first(&keep.lost, if message.is_empty() { format!("{reason:?}") } else { message });
        });
        let limits = device.limits();
        Ok(Gpu { adapter_of_own: Some(self.clone()), ..Gpu::new(device, queue, summary, limits, faults) })
    }
}

fn keep_first(slot: &Mutex<Option<String>>, text: String) {
    slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
}

fn kept(slot: &Mutex<Option<String>>) -> Option<String> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// wgpu's own words repeat the causes over several lines.
fn wgpu_reason(error: &Error) -> String {
    match error {
        Error::Validation { source, .. } | Error::Internal { source, .. } => one_line(source.as_ref()),
        Error::OutOfMemory { .. } => one_line(error),
    }
}

/// Whether the device refuses what every device can do. Its loss is told to its owner alone, and only while it is
/// polled.
fn refuses(device: &wgpu::Device) -> impl Future<Output = bool> + use<> {
    let polled = platform::glance(device);
    let scope = device.push_error_scope(ErrorFilter::Validation);
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("probe"),
        size: 16,
        usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    buffer.map_async(wgpu::MapMode::Read, .., |_| ());
    let caught = scope.pop();
    async move { polled.is_err() || caught.await.is_some() }
}

impl Gpu {
    fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        summary: AdapterSummary,
        limits: Limits,
        faults: Arc<Faults>,
    ) -> Self {
        let pipelines = Mutex::new(HashMap::new());
        let cooperative = OnceLock::new();
        let (time_limit, adapter_of_own) = (TIME_LIMIT, None);
        Self { device, queue, summary, limits, faults, pipelines, time_limit, cooperative, adapter_of_own }
    }

    /// Computes on a device of the host's. Its handlers for lost devices and uncaptured errors stay as they are: every
    /// call of ours stands in an error scope, and a lost device shows as a readback that fails.
    pub fn from_host(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let limits = device.limits();
        let summary = AdapterSummary::new(&device.adapter_info(), device.features(), &limits);
        Self::new(device, queue, summary, limits, Arc::default())
    }

    /// Sets how long the device may make no progress before a wait gives [`GpuError::Timeout`]; two minutes otherwise.
    pub fn with_time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// Computes as on a device whose shaders have no type f16: half precision is packed into words.
    pub fn with_packed_halves(mut self) -> Self {
        self.summary.device.f16 = false;
        self
    }

    /// Computes with cooperative matrices too, on a host's device that has them with f16 and subgroups. `adapter` is the
    /// one that the device is of: it alone knows their extent.
    pub fn with_cooperative_matrices_of(mut self, adapter: &wgpu::Adapter) -> Self {
        self.summary = self.summary.with_cooperative_matrices_of(adapter, self.device.features());
        self
    }

    /// Computes as on a device that has no cooperative matrices.
    pub fn without_cooperative_matrices(mut self) -> Self {
        self.summary.device.cooperative_matrix = None;
        self
    }

    /// The adapter, with the features and limits that this device was opened with.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.summary
    }

    /// What the choice of variants depends on: the adapter's, without cooperative matrices once those have failed their
    /// test.
    pub fn profile(&self) -> Device {
        let cooperative_matrix = match self.cooperative.get() {
            Some(Err(_)) => None,
            _ => self.summary.device.cooperative_matrix,
        };
        Device { cooperative_matrix, ..self.summary.device }
    }

    /// Bytes of the largest tensor: what one binding, and one buffer, can hold.
    pub fn binding_limit(&self) -> u64 {
        let limit = self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size);
        // Planned buffers are multiples of 256 bytes.
        limit - limit % 256
    }

    /// wgpu's device.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// wgpu's queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// What the device's allocator holds; none where the backend does not say.
    pub fn allocator_report(&self) -> Option<AllocatorReport> {
        let report = self.device.generate_allocator_report()?;
        Some(AllocatorReport {
            allocations: report.allocations.len(),
            allocated_bytes: report.total_allocated_bytes,
            reserved_bytes: report.total_reserved_bytes,
        })
    }

    /// Whether the device is still there and no error came up outside of our scopes.
    ///
    /// # Errors
    /// [`GpuError::Lost`] or [`GpuError::Refused`], from now on at every call.
    pub fn check(&self) -> Result<(), GpuError> {
        if let Some(reason) = kept(&self.faults.lost) {
            return Err(self.lost(&reason));
        }
        match kept(&self.faults.uncaptured) {
            Some(reason) => Err(self.refused("device", reason)),
            None => Ok(()),
        }
    }

    pub(crate) fn lost(&self, reason: &str) -> GpuError {
        GpuError::Lost { adapter: self.summary.to_string(), reason: reason.to_owned() }
    }

    pub(crate) fn refused(&self, what: &str, reason: String) -> GpuError {
        GpuError::Refused { what: what.to_owned(), reason, adapter: self.summary.to_string() }
    }

    /// Runs `call` inside error scopes, which are thread-local and end before anything is awaited. The future gives
    /// what they caught; `bytes` is the memory that `call` asks for.
    pub(crate) fn scoped<T>(&self, what: &str, bytes: u64, call: impl FnOnce() -> T) -> (T, Outcome) {
        let filters = [ErrorFilter::Internal, ErrorFilter::OutOfMemory, ErrorFilter::Validation];
        let [internal, memory, validation] = filters.map(|filter| self.device.push_error_scope(filter));
        let result = call();
        let caught = (validation.pop(), memory.pop(), internal.pop());
        let (what, adapter) = (what.to_owned(), self.summary.to_string());
        let (device, faults) = (self.device.clone(), self.faults.clone());
        let outcome: Outcome = Box::pin(async move {
            // Memory first: what follows a failed allocation is its consequence.
            let (memory, validation, internal) = (caught.1.await, caught.0.await, caught.2.await);
            let Some(error) = memory.or(validation).or(internal) else { return Ok(()) };
            if let Error::OutOfMemory { .. } = error {
                return Err(GpuError::OutOfMemory { what, bytes, adapter });
            }
            // On a lost device nothing is valid.
            let refused = refuses(&device).await;
            match kept(&faults.lost).or_else(|| refused.then(|| "it refuses every call".to_owned())) {
                Some(reason) => Err(GpuError::Lost { adapter, reason }),
                None => Err(GpuError::Refused { what, reason: wgpu_reason(&error), adapter }),
            }
        });
        (result, outcome)
    }

    /// Creates a buffer; an allocation that fails is the outcome's.
    ///
    /// # Errors
    /// [`GpuError::Limit`].
    pub(crate) fn begin_buffer(
        &self,
        label: &str,
        size: u64,
        usage: BufferUsages,
    ) -> Result<(wgpu::Buffer, Outcome), GpuError> {
        self.within("maxBufferSize", label, self.limits.max_buffer_size, size)?;
        Ok(self.scoped(label, size, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        }))
    }

    /// Creates a buffer.
    ///
    /// # Errors
    /// [`GpuError::Limit`] or [`GpuError::OutOfMemory`].
    pub(crate) async fn buffer(&self, label: &str, size: u64, usage: BufferUsages) -> Result<wgpu::Buffer, GpuError> {
        let (buffer, outcome) = self.begin_buffer(label, size, usage)?;
        outcome.await?;
        Ok(buffer)
    }

    pub(crate) fn within(&self, limit: &'static str, what: &str, most: u64, got: u64) -> Result<(), GpuError> {
        if got <= most {
            return Ok(());
        }
        let adapter = self.summary.to_string();
        Err(GpuError::Limit { what: format!("bytes of {what}"), limit, most, got, adapter })
    }

    /// Submits, and has `ended` set, with the time, when the work is known to be done.
    pub(crate) fn submit(&self, commands: CommandBuffer, ended: &Signal<Duration>) {
        self.queue.submit([commands]);
        let (ended, faults) = (ended.clone(), self.faults.clone());
        self.queue.on_submitted_work_done(move || {
            faults.ended.fetch_add(1, Ordering::Relaxed);
            ended.set(platform::now());
        });
    }
}
