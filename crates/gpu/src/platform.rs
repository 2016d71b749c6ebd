//! What differs between native builds and the browser: who drives the device, clocks and threads.

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        pin::Pin,
        sync::{
            OnceLock,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::{Duration, Instant},
    };

    use wgpu::{PollError, PollType, SubmissionIndex};

    use crate::GpuError;

    /// How long one poll of a future may sleep in the driver; short, so that the futures beside it get their turn.
    const SLICE: Duration = Duration::from_millis(2);

    /// What an error scope caught; it resolves by itself.
    pub(crate) type Outcome = Pin<Box<dyn Future<Output = Result<(), GpuError>> + Send>>;

    /// Waits a moment for a submission and runs the callbacks that are due.
    ///
    /// # Errors
    /// The device is lost. wgpu panics where the driver says so during a poll, hence the catch.
    pub(crate) fn drive(device: &wgpu::Device, submission: &SubmissionIndex) -> Result<(), &'static str> {
        poll(device, PollType::Wait { submission_index: Some(submission.clone()), timeout: Some(SLICE) })
    }

    /// Runs the callbacks that are due, without waiting.
    ///
    /// # Errors
    /// As [`drive`].
    pub(crate) fn glance(device: &wgpu::Device) -> Result<(), &'static str> {
        poll(device, PollType::Poll)
    }

    fn poll(device: &wgpu::Device, poll_type: PollType) -> Result<(), &'static str> {
        match catch_unwind(AssertUnwindSafe(|| device.poll(poll_type))) {
            Ok(Ok(_) | Err(PollError::Timeout)) => Ok(()),
            Ok(Err(PollError::WrongSubmissionIndex(..))) => Err("the submission was refused"),
            Err(_) => Err("the driver reports it lost"),
        }
    }

    /// Time since some fixed point.
    pub(crate) fn now() -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    /// Calls `work` for 0..count from all cores; returns the results by index. `done` is called on this thread after
    /// each one.
    pub(crate) fn parallel<T: Send>(
        count: usize,
        work: impl Fn(usize) -> T + Sync,
        mut done: impl FnMut(),
    ) -> Vec<Option<T>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count);
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        let mut results: Vec<_> = (0..count).map(|_| None).collect();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (sender, next, work) = (sender.clone(), &next, &work);
                scope.spawn(move || {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= count || sender.send((i, work(i))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (i, result) in receiver {
                results[i] = Some(result);
                done();
            }
        });
        results
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::*;

#[cfg(target_arch = "wasm32")]
mod web {
    use std::{pin::Pin, time::Duration};

    use wgpu::SubmissionIndex;

    use crate::GpuError;

    /// What an error scope caught; the browser says so later.
    pub(crate) type Outcome = Pin<Box<dyn Future<Output = Result<(), GpuError>>>>;

    /// The browser drives its devices itself.
    pub(crate) fn drive(_: &wgpu::Device, _: &SubmissionIndex) -> Result<(), &'static str> {
        Ok(())
    }

    /// As [`drive`].
    pub(crate) fn glance(_: &wgpu::Device) -> Result<(), &'static str> {
        Ok(())
    }

    /// No clock is needed: the browser ends a hung device itself.
    pub(crate) fn now() -> Duration {
        Duration::ZERO
    }

    /// As natively, one after the other.
    pub(crate) fn parallel<T>(count: usize, work: impl Fn(usize) -> T, mut done: impl FnMut()) -> Vec<Option<T>> {
        let mut one = |i| {
            let result = work(i);
            done();
            Some(result)
        };
        (0..count).map(&mut one).collect()
    }
}

#[cfg(target_arch = "wasm32")]
pub(crate) use web::*;
