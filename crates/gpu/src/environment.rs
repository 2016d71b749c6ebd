//! What drivers read from the environment, set for the good of a program that trains and does nothing else.

use std::env::{set_var, var_os};

/// Bits of lavapipe's vectors: its own choice is 256.
const VECTOR_WIDTH: &str = "LP_NATIVE_VECTOR_WIDTH";

/// Sets what makes Mesa's drivers faster or quieter; what the user has set stays.
///
/// - lavapipe computes with vectors of 512 bits where the processor gains by it.
/// - Mesa's device selection layer asks Wayland for the display's GPU and, on a machine without a display, prints an
///   error to stderr twice. Without a display it has nothing to select by, and is switched off.
///
/// # Safety
/// To be called before the process has other threads, and before it looks for adapters.
pub unsafe fn prepare_environment() {
    if wide_vectors_pay() && var_os(VECTOR_WIDTH).is_none() {
        // SAFETY: by this function's contract nothing else reads or writes the environment now.
        unsafe { set_var(VECTOR_WIDTH, "512") };
    }
    if cfg!(target_os = "linux") && var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: as above.
        unsafe { set_var("NODEVICE_SELECT", "1") };
    }
}

/// Whether this is an AMD processor with AVX-512: a step takes 0.87 times as long with 512 bits on Zen 5, 0.86 to 0.92
/// times on Zen 4, and took longer on an Intel Xeon (benches/LOG.md).
#[cfg(target_arch = "x86_64")]
fn wide_vectors_pay() -> bool {
    use std::arch::x86_64::__cpuid;
    let vendor = __cpuid(0);
    let amd = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD";
    amd && std::is_x86_feature_detected!("avx512dq")
}

#[cfg(not(target_arch = "x86_64"))]
fn wide_vectors_pay() -> bool {
    false
}
