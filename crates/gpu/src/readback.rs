//! From device memory to the host: now, or later without waiting.

use std::sync::{Arc, Mutex, PoisonError};

use wgpu::{Buffer, BufferAsyncError, BufferUsages};

use crate::{Gpu, GpuError, error::one_line, platform::Outcome, wait::Signal};

type Mapped = Signal<Result<(), BufferAsyncError>>;

impl Gpu {
    /// Asks for a whole `MAP_READ` buffer; the signal comes when all work submitted before on it is done.
    fn begin_map(&self, staging: &Buffer, what: &str) -> (Mapped, Outcome) {
        let mapped = Signal::new();
        let set = mapped.clone();
        let ((), outcome) = self.scoped(what, staging.size(), || {
            staging.map_async(wgpu::MapMode::Read, .., move |result| set.set(result));
        });
        (mapped, outcome)
    }

    fn end_map(&self, staging: &Buffer, result: Result<(), BufferAsyncError>, what: &str) -> Result<Vec<u8>, GpuError> {
        self.check()?;
        result.map_err(|_| self.lost("a readback failed"))?;
        let view = staging.get_mapped_range(..).map_err(|error| self.refused(what, one_line(&error)))?;
        let bytes = view.to_vec();
        drop(view);
        staging.unmap();
        Ok(bytes)
    }

    /// Reads a whole `MAP_READ` buffer, once what was submitted before is done.
    ///
    /// # Errors
    /// As waits give them.
    pub(crate) async fn map(&self, staging: &Buffer, what: &str) -> Result<Vec<u8>, GpuError> {
        let (mapped, outcome) = self.begin_map(staging, what);
        outcome.await?;
        let result = self.wait_for(&mapped, what).await?;
        self.end_map(staging, result, what)
    }
}

/// Staging buffers that small readbacks share, so that one in every step allocates nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct StagingRing(Arc<Mutex<Vec<Buffer>>>);

impl StagingRing {
    /// Largest buffer that is kept, in bytes, and how many are.
    const KEPT_BYTES: u64 = 1 << 16;
    const KEPT: usize = 8;

    fn take(&self, size: u64) -> Option<Buffer> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let position = kept.iter().position(|buffer| buffer.size() == size)?;
        Some(kept.swap_remove(position))
    }

    fn give(&self, buffer: Buffer) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.size() <= Self::KEPT_BYTES && kept.len() < Self::KEPT {
            kept.push(buffer);
        }
    }
}

/// A copy of a tensor on its way to the host. It holds what the tensor held when it was asked for, whatever runs
/// afterwards.
#[derive(Debug)]
pub struct Readback {
    gpu: Arc<Gpu>,
    what: String,
    staging: Buffer,
    ring: StagingRing,
    mapped: Mapped,
}

impl Readback {
    /// Submits the copy of a range of `buffer`. The outcomes are those of the calls it took.
    pub(crate) fn begin(
        gpu: &Arc<Gpu>,
        ring: &StagingRing,
        what: &str,
        buffer: &Buffer,
        bytes: std::ops::Range<usize>,
    ) -> Result<(Self, [Outcome; 3]), GpuError> {
        let size = bytes.len() as u64;
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let none: Outcome = Box::pin(async { Ok(()) });
        let (staging, created) = match ring.take(size) {
            Some(staging) => (staging, none),
            None => gpu.begin_buffer(what, size, usage)?,
        };
        let ((), copied) = gpu.scoped(what, size, || {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, bytes.start as u64, &staging, 0, size);
            gpu.submit(encoder.finish(), &Signal::new())
        });
        let (mapped, asked) = gpu.begin_map(&staging, what);
        let (gpu, ring, what) = (gpu.clone(), ring.clone(), what.to_owned());
        Ok((Self { gpu, what, staging, ring, mapped }, [created, copied, asked]))
    }

    /// The bytes, once they are there; never waits. After they came, none.
    ///
    /// # Errors
    /// A device that is lost.
    pub fn try_take(&mut self) -> Result<Option<Vec<u8>>, GpuError> {
        self.gpu.check()?;
        self.gpu.glance()?;
        match self.mapped.take() {
            Some(result) => self.finish(result).map(Some),
            None => Ok(None),
        }
    }

    /// The bytes.
    ///
    /// # Errors
    /// A device that is lost or hangs.
    pub async fn wait(self) -> Result<Vec<u8>, GpuError> {
        let result = self.gpu.wait_for(&self.mapped, &self.what).await?;
        self.finish(result)
    }

    fn finish(&self, result: Result<(), BufferAsyncError>) -> Result<Vec<u8>, GpuError> {
        let bytes = self.gpu.end_map(&self.staging, result, &self.what)?;
        self.ring.give(self.staging.clone());
        Ok(bytes)
    }
}
