//! A device and its queue, with every fault of theirs turned into a [`GpuError`].

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use evenkeel_shaders::Device;
use wgpu::{CommandBuffer, Error, ErrorFilter, Limits, SubmissionIndex};

use crate::{
    Adapter, AdapterSummary, GpuError, error::one_line, pipeline::PipelineCache, platform::Outcome, wait::Signal,
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
}

/// What callbacks of wgpu report between our calls.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    lost: Mutex<Option<String>>,
    uncaptured: Mutex<Option<String>>,
    pub(crate) ended: AtomicU64,
}

/// Memory that the device's allocator holds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatorReport {
    /// In use by buffers.
    pub allocated_bytes: u64,
    /// Taken from the driver, unused parts of blocks included.
    pub reserved_bytes: u64,
}

impl Adapter {
    /// Opens a device of our own: `Limits::default()` raised to what the adapter offers where that helps, subgroups and
    /// timestamps where they are there.
    ///
    /// # Errors
    /// [`GpuError::Open`].
    pub async fn open(&self) -> Result<Gpu, GpuError> {
        let (device, queue) = self.request_device().await?;
        let faults = Arc::new(Faults::default());
        let keep = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: Error| {
            keep_first(&keep.uncaptured, one_line(&error));
        }));
        let keep = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            keep_first(&keep.lost, if message.is_empty() { format!("{reason:?}") } else { message });
        });
        let limits = device.limits();
        Ok(Gpu::new(device, queue, self.summary().clone(), limits, faults))
    }
}

fn keep_first(slot: &Mutex<Option<String>>, text: String) {
    slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
}

fn kept(slot: &Mutex<Option<String>>) -> Option<String> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Gpu {
    fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        summary: AdapterSummary,
        limits: Limits,
        faults: Arc<Faults>,
    ) -> Self {
        Self { device, queue, summary, limits, faults, pipelines: Mutex::new(HashMap::new()), time_limit: TIME_LIMIT }
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

    /// The adapter, with the features and limits that this device was opened with.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.summary
    }

    /// What the choice of variants depends on.
    pub fn profile(&self) -> Device {
        self.summary.device
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
        let (what, adapter, faults) = (what.to_owned(), self.summary.to_string(), self.faults.clone());
        let outcome: Outcome = Box::pin(async move {
            // Memory first: what follows a failed allocation is its consequence.
            let caught = (caught.1.await, caught.2.await, caught.0.await);
            if let Some(reason) = kept(&faults.lost) {
                return Err(GpuError::Lost { adapter, reason });
            }
            match caught.0.or(caught.1).or(caught.2) {
                None => Ok(()),
                Some(Error::OutOfMemory { .. }) => Err(GpuError::OutOfMemory { what, bytes, adapter }),
                Some(error) => Err(GpuError::Refused { what, reason: one_line(&error), adapter }),
            }
        });
        (result, outcome)
    }

    /// Creates a buffer.
    ///
    /// # Errors
    /// [`GpuError::Limit`] or [`GpuError::OutOfMemory`].
    pub(crate) async fn buffer(
        &self,
        label: &str,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        self.within("maxBufferSize", label, self.limits.max_buffer_size, size)?;
        let (buffer, outcome) = self.scoped(label, size, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        });
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

    /// Submits, and has `ended` set when the work is done.
    pub(crate) fn submit(
        &self,
        commands: impl IntoIterator<Item = CommandBuffer>,
        ended: &Signal<()>,
    ) -> SubmissionIndex {
        let submission = self.queue.submit(commands);
        let (ended, faults) = (ended.clone(), self.faults.clone());
        self.queue.on_submitted_work_done(move || {
            faults.ended.fetch_add(1, Ordering::Relaxed);
            ended.set(());
        });
        submission
    }

    /// Reads a whole `MAP_READ` buffer, once `submission` is done.
    ///
    /// # Errors
    /// As waits give them.
    pub(crate) async fn map(
        &self,
        staging: &wgpu::Buffer,
        submission: &SubmissionIndex,
        what: &str,
    ) -> Result<Vec<u8>, GpuError> {
        let mapped = Signal::new();
        let set = mapped.clone();
        let ((), outcome) = self.scoped(what, staging.size(), || {
            staging.map_async(wgpu::MapMode::Read, .., move |result| set.set(result));
        });
        outcome.await?;
        self.wait_for(&mapped, submission, what).await?.map_err(|_| self.lost("a readback failed"))?;
        let view = staging.get_mapped_range(..).map_err(|error| self.refused(what, one_line(&error)))?;
        let bytes = view.to_vec();
        drop(view);
        staging.unmap();
        Ok(bytes)
    }
}
