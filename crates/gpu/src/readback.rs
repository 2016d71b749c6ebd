//! From device memory to the host: now, or later without waiting.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use wgpu::{Buffer, BufferAsyncError, BufferUsages, CommandEncoder, MapMode};

use crate::{
    Gpu, GpuError,
    error::one_line,
    platform::{self, Outcome},
    wait::Signal,
};

/// What became of a request to map, and when that was known.
type Mapped = Signal<(Result<(), BufferAsyncError>, Duration)>;

impl Gpu {
    /// Asks for a whole `MAP_READ` buffer; the signal comes when all work submitted before on it is done.
    fn begin_map(&self, staging: &Buffer, what: &str) -> (Mapped, Outcome) {
        let mapped = Signal::new();
        let set = mapped.clone();
        let ((), outcome) = self.scoped(what, staging.size(), || {
            staging.map_async(MapMode::Read, .., move |result| set.set((result, platform::now())));
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
        let (result, _) = self.wait_for(&mapped, what).await?;
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

/// A copy to record behind what it is a copy of.
#[derive(Debug)]
pub(crate) struct Copy {
    source: Buffer,
    start: u64,
    staging: Buffer,
    mapped: Mapped,
}

impl Copy {
    /// Records the copy; once submitted and done it is mapped.
    pub(crate) fn record(self, encoder: &mut CommandEncoder) {
        encoder.copy_buffer_to_buffer(&self.source, self.start, &self.staging, 0, self.staging.size());
        let mapped = self.mapped;
        encoder.map_buffer_on_submit(&self.staging, MapMode::Read, .., move |result| {
            mapped.set((result, platform::now()));
        });
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
    arrived: Duration,
}

impl Readback {
    /// A readback of a range of `source`, and the copy to record for it. The outcome is that of the calls it took.
    pub(crate) fn of(
        gpu: &Arc<Gpu>,
        ring: &StagingRing,
        what: &str,
        source: &Buffer,
        bytes: Range<usize>,
    ) -> Result<(Self, Copy, Outcome), GpuError> {
        let size = bytes.len() as u64;
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let none: Outcome = Box::pin(async { Ok(()) });
        let (staging, created) = match ring.take(size) {
            Some(staging) => (staging, none),
            None => gpu.begin_buffer(what, size, usage)?,
        };
        let mapped = Signal::new();
        let copy = Copy {
            source: source.clone(),
            start: bytes.start as u64,
            staging: staging.clone(),
            mapped: mapped.clone(),
        };
        let (gpu, ring, what) = (gpu.clone(), ring.clone(), what.to_owned());
        Ok((Self { gpu, what, staging, ring, mapped, arrived: Duration::ZERO }, copy, created))
    }

    /// The bytes, once they are there; never waits. After they came, none.
    ///
    /// # Errors
    /// A device that is lost.
    pub fn try_take(&mut self) -> Result<Option<Vec<u8>>, GpuError> {
        self.gpu.check()?;
        self.gpu.glance()?;
        match self.mapped.take() {
            Some((result, arrived)) => {
                self.arrived = arrived;
                self.finish(result).map(Some)
            }
            None => Ok(None),
        }
    }

    /// When the bytes that [`Readback::try_take`] gave were known to be there, by [`crate::now`].
    pub fn arrived(&self) -> Duration {
        self.arrived
    }

    /// The bytes.
    ///
    /// # Errors
    /// A device that is lost or hangs.
    pub async fn wait(self) -> Result<Vec<u8>, GpuError> {
        let (result, _) = self.gpu.wait_for(&self.mapped, &self.what).await?;
        self.finish(result)
    }

    fn finish(&self, result: Result<(), BufferAsyncError>) -> Result<Vec<u8>, GpuError> {
        let bytes = self.gpu.end_map(&self.staging, result, &self.what)?;
        self.ring.give(self.staging.clone());
        Ok(bytes)
    }
}
