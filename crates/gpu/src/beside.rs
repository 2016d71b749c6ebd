//! Kernels that a second device compiles, beside the first.
//!
//! A software driver compiles a kernel when it is first dispatched, on the one thread of its device's queue. What a second
//! device of the same adapter compiles in the meantime, the first finds in the driver's cache on disk. Where that is switched
//! off nothing is won, and nothing is lost but the work of another core.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use evenkeel_shaders::Class;

use crate::{Gpu, pipeline::Kernel, platform};

/// Kernels from which on a second device is worth opening.
const FEWEST: usize = 8;

/// The numbers of the kernels that nobody has taken yet: the first device takes from the front, the second from the back.
#[derive(Debug)]
pub(crate) struct Rest(Mutex<Range<usize>>);

impl Rest {
    fn take(&self, next: impl FnOnce(&mut Range<usize>) -> Option<usize>) -> Option<usize> {
        next(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The second device at work. It ends with the kernel that it is at when this is dropped: a driver that compiles must not be
/// left behind by a process that ends.
#[derive(Debug)]
pub(crate) struct Beside {
    rest: Arc<Rest>,
    thread: Option<platform::Thread>,
}

impl Beside {
    /// Has a second device of `gpu`'s adapter begin at the end of `kernels`, where that is of use.
    pub(crate) async fn begin(gpu: &Gpu, kernels: &[Kernel]) -> Self {
        let rest = Arc::new(Rest(Mutex::new(0..kernels.len())));
        let mut thread = None;
        if let Some(second) = second_device(gpu, kernels.len()).await {
            let (rest, kernels) = (rest.clone(), kernels.to_vec());
            thread = platform::thread(move || {
                while let Some(i) = rest.take(DoubleEndedIterator::next_back) {
                    // What it cannot compile is told by the first device, which tries it as well.
                    let _ = platform::drive(second.prepare(kernels[i]));
                }
            });
        }
        Self { rest, thread }
    }

    /// The next kernel for the first device.
    pub(crate) fn next(&self) -> Option<usize> {
        self.rest.take(Iterator::next)
    }

    /// Waits for the second device.
    pub(crate) fn join(&mut self) {
        self.rest.take(|rest| {
            *rest = 0..0;
            None
        });
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.join();
    }
}

/// Another device like `gpu`, where the driver compiles on the processor and so many kernels are to be compiled.
async fn second_device(gpu: &Gpu, kernels: usize) -> Option<Gpu> {
    let adapter = gpu.adapter_of_own.as_ref()?;
    if gpu.profile().class != Class::Software || kernels < FEWEST {
        return None;
    }
    adapter.open().await.ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_kernel_is_taken_once() {
        let beside = Beside { rest: Arc::new(Rest(Mutex::new(0..5))), thread: None };
        let back = || beside.rest.take(DoubleEndedIterator::next_back);
        assert_eq!(
            [beside.next(), back(), back(), beside.next(), back(), back(), beside.next()],
            [Some(0), Some(4), Some(3), Some(1), Some(2), None, None]
        );
    }

    #[test]
    fn a_second_device_is_opened_for_many_kernels_of_a_software_driver() {
        let gpu = pollster::block_on(async { crate::select(None).await.unwrap().open().await.unwrap() });
        let opened = |gpu: &Gpu, kernels| pollster::block_on(second_device(gpu, kernels)).is_some();
        assert_eq!(opened(&gpu, FEWEST), gpu.profile().class == Class::Software);
        assert!(!opened(&gpu, FEWEST - 1));
        let of_host = Gpu::from_host(gpu.device().clone(), gpu.queue().clone());
        assert!(!opened(&of_host, FEWEST));
    }
}
