//! The adapter that tests run on. One device per process: drivers leak per device.

use std::{
    env,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use evenkeel_gpu::{Gpu, Kernel};
use evenkeel_shaders::{Device, Form, Params, Precision, Variant};

/// The device of this process: the adapter that `EVENKEEL_ADAPTER` names a part of, otherwise the best there is.
///
/// # Errors
/// Where there is none, with what to do about it.
pub fn gpu() -> Result<&'static Arc<Gpu>, String> {
    static GPU: OnceLock<Result<Arc<Gpu>, String>> = OnceLock::new();
    let open = || {
        let wanted = env::var("EVENKEEL_ADAPTER").ok();
        pollster::block_on(async { evenkeel_gpu::select(wanted.as_deref()).await?.open().await.map(Arc::new) }).map_err(
            |error| {
                format!(
                    "adapter for tests: {error}; `cargo xtask test` installs lavapipe, EVENKEEL_ADAPTER chooses another"
                )
            },
        )
    };
    GPU.get_or_init(open).as_ref().map_err(String::clone)
}

/// What variants are chosen by on the device under test.
pub(crate) fn profile() -> Result<Device, String> {
    gpu().map(|gpu| gpu.profile())
}

/// Whether the device under test has what the variant needs.
pub(crate) fn able(variant: &Variant) -> Result<bool, String> {
    Ok(variant.able(&profile()?))
}

/// The forms that the device under test runs in this precision: half precision is packed everywhere, and native too where
/// there is f16.
pub(crate) fn forms(precision: Precision) -> Result<Vec<Form>, String> {
    let packed = Form { precision, packed: precision != Precision::F32 };
    let used = Form::of(precision, &profile()?);
    Ok(if packed == used { vec![used] } else { vec![packed, used] })
}

/// Runs a kernel with its grid split into so many dispatches. Buffers are bound whole, with what stands behind the
/// data; those that the card writes are read back. One at a time: wgpu 30 panics now and then ("the current submission
/// index should be at least the wait submission index") when two threads wait on one device.
pub(crate) fn dispatch(kernel: Kernel, params: &Params, pieces: u32, buffers: &mut [Vec<u32>]) -> Result<(), String> {
    let mut bytes: Vec<Vec<u8>> = buffers.iter().map(|words| bytemuck::cast_slice(words).to_vec()).collect();
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let run = gpu()?.dispatch_in_pieces(kernel, params, &mut bytes, pieces);
    pollster::block_on(run).map_err(|error| error.to_string())?;
    for (words, bytes) in buffers.iter_mut().zip(&bytes) {
        *words = bytemuck::pod_collect_to_vec(bytes);
    }
    Ok(())
}
