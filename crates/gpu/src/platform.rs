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
        task::{Context, Poll, Waker},
        time::{Duration, Instant},
    };

    use wgpu::PollType;

    use crate::GpuError;

    /// What an error scope caught; it resolves by itself.
    pub(crate) type Outcome = Pin<Box<dyn Future<Output = Result<(), GpuError>> + Send>>;

    /// Runs the callbacks that are due, without waiting.
    ///
    /// # Errors
    /// The device is lost. wgpu panics where the driver says so during a poll, hence the catch.
    pub(crate) fn glance(device: &wgpu::Device) -> Result<(), &'static str> {
        match catch_unwind(AssertUnwindSafe(|| device.poll(PollType::Poll))) {
            Ok(_) => Ok(()),
            Err(_) => Err("the driver reports it lost"),
        }
    }

    /// A short sleep between two polls of a future that has waited for so long already: a sixteenth of that, so that
    /// it ends at most so much late, and at most a millisecond. (wgpu's own wait with a timeout panics when another
    /// thread polls the device in the meantime.)
    pub(crate) fn pause(waited: Duration) {
        std::thread::sleep((waited / 16).clamp(Duration::from_micros(20), Duration::from_millis(1)));
    }

    /// Time since some fixed point: the clock of everything below the command line.
    pub fn now() -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    /// A thread of one piece of work.
    #[derive(Debug)]
    pub(crate) struct Thread(std::thread::JoinHandle<()>);

    impl Thread {
        /// Waits for its end.
        pub(crate) fn join(self) {
            // A panic there is told where it happens.
            let _ = self.0.join();
        }
    }

    /// Does `work` on another core, where there is one.
    pub(crate) fn thread(work: impl FnOnce() + Send + 'static) -> Option<Thread> {
        if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            return None;
        }
        std::thread::Builder::new().spawn(work).ok().map(Thread)
    }

    /// Polls a future of this crate to its end: they wait inside of polls.
    pub(crate) fn drive<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
        }
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
pub use native::now;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{Outcome, Thread, drive, glance, parallel, pause, thread};

#[cfg(target_arch = "wasm32")]
mod web {
    use std::{pin::Pin, time::Duration};

    use crate::GpuError;

    /// What an error scope caught; the browser says so later.
    pub(crate) type Outcome = Pin<Box<dyn Future<Output = Result<(), GpuError>>>>;

    /// The browser drives its devices itself.
    pub(crate) fn glance(_: &wgpu::Device) -> Result<(), &'static str> {
        Ok(())
    }

    /// Callbacks wake the future.
    pub(crate) fn pause(_: Duration) {}

    /// No clock is needed: the browser ends a hung device itself.
    pub fn now() -> Duration {
        Duration::ZERO
    }

    /// There are none.
    #[derive(Debug)]
    pub(crate) enum Thread {}

    impl Thread {
        pub(crate) fn join(self) {
            match self {}
        }
    }

    /// None.
    pub(crate) fn thread(_: impl FnOnce() + 'static) -> Option<Thread> {
        None
    }

    /// Of no use without threads.
    pub(crate) fn drive<T>(_: impl Future<Output = T>) -> Option<T> {
        None
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
pub use web::now;
#[cfg(target_arch = "wasm32")]
pub(crate) use web::{Outcome, Thread, drive, glance, parallel, pause, thread};
