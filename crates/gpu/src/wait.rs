//! Waiting for the device without blocking on it.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use crate::{Gpu, GpuError, platform};

/// A value that a callback of wgpu brings, once.
#[derive(Debug)]
pub(crate) struct Signal<T>(Arc<Mutex<State<T>>>);

#[derive(Debug)]
struct State<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

impl<T> Clone for Signal<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Signal<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { value: None, waker: None })))
    }

    pub(crate) fn set(&self, value: T) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.value = Some(value);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).value.take()
    }

    fn take_or_watch(&self, context: &Context<'_>) -> Option<T> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.waker = Some(context.waker().clone());
        state.value.take()
    }
}

impl Gpu {
    /// The value of `signal`, which comes when the device has done what was submitted before it was asked for.
    /// Natively every poll of this future polls the device, sleeps for at most a millisecond and asks to be polled
    /// again: nobody else need drive the device.
    ///
    /// # Errors
    /// The device is lost, an error came up in the meantime, or no submit ended within the time limit.
    pub(crate) async fn wait_for<T>(&self, signal: &Signal<T>, what: &str) -> Result<T, GpuError> {
        let began = platform::now();
        let (mut progress, mut since) = (self.progress(), began);
        poll_fn(|context| {
            // The device first: a callback that is due may bring the value.
            let polled = self.check().and_then(|()| self.glance());
            if let Some(value) = signal.take_or_watch(context) {
                return Poll::Ready(Ok(value));
            }
            if let Err(error) = polled {
                return Poll::Ready(Err(error));
            }
            let now = platform::now();
            if progress != self.progress() {
                (progress, since) = (self.progress(), now);
            }
            if now - since > self.time_limit {
                return Poll::Ready(Err(GpuError::Timeout {
                    what: what.to_owned(),
                    seconds: self.time_limit.as_secs(),
                    adapter: self.summary.to_string(),
                }));
            }
            if cfg!(not(target_arch = "wasm32")) {
                platform::pause(now - began);
                context.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// Counts submissions that ended.
    fn progress(&self) -> u64 {
        self.faults.ended.load(Ordering::Relaxed)
    }

    /// Runs callbacks that are due.
    pub(crate) fn glance(&self) -> Result<(), GpuError> {
        platform::glance(&self.device).map_err(|reason| {
            // The loss callback knows the driver's own words.
            self.check().err().unwrap_or_else(|| self.lost(reason))
        })
    }
}
