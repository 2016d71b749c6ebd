//! Which device a verb computes on, and what it says of that.

use std::{error::Error, sync::Arc};

use evenkeel_gpu::{AdapterSummary, GpuError};
use evenkeel_shaders::{Class, Variant, matmul_nt};
use evenkeel_train::Compute;

use crate::output;

/// The text that asks for the CPU executor.
pub(crate) const CPU: &str = "cpu";

/// Opens what `--adapter` asks for, or the best there is; says what it is on stderr.
pub(crate) async fn open(text: Option<&str>) -> Result<Compute, Box<dyn Error>> {
    if text == Some(CPU) {
        output::note(&cpu_line());
        return Ok(Compute::Cpu);
    }
    let adapter = match evenkeel_gpu::select(text).await {
        Ok(adapter) => adapter,
        Err(error @ GpuError::NoAdapter) => {
            output::note(&format!("{error}; training on the CPU executor"));
            output::note(&cpu_line());
            return Ok(Compute::Cpu);
        }
        Err(error) => return Err(unknown(&error)),
    };
    output::note(&adapter.summary().to_string());
    if adapter.summary().device.class == Class::Software {
        output::note("this is a software driver: --adapter cpu is likely faster here");
    }
    let gpu = Arc::new(adapter.open().await?);
    evenkeel_gpu::self_test(&gpu).await?;
    Ok(Compute::Gpu(gpu))
}

/// Why `--adapter` names none, with the choice that [`evenkeel_gpu`] does not know of.
pub(crate) fn unknown(error: &GpuError) -> Box<dyn Error> {
    format!("{error}; {CPU}, the CPU executor, is always there").into()
}

/// The CPU executor in the form of an adapter's line.
pub(crate) fn cpu_line() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!("cpu ({threads} threads), evenkeel {}, CPU executor", env!("CARGO_PKG_VERSION"))
}

/// How an adapter would compute y = x w^T: variants in the order of preference, and how large a grid each is for.
pub(crate) fn products(adapter: &AdapterSummary) -> String {
    let wanted =
        |variant: &&Variant| variant.able(&adapter.device) && variant.preferred_on.contains(&adapter.device.class);
    let word = |variant: &Variant| {
        let halves = if variant.native_only { " in mixed precision" } else { "" };
        match variant.fewest_groups {
            0 => format!("{}{halves}", variant.name),
            groups => format!("{}{halves} from {groups} workgroups on", variant.name),
        }
    };
    matmul_nt::CARD.variants.iter().filter(wanted).map(word).collect::<Vec<_>>().join(", ")
}

/// Whether products in mixed precision would use cooperative matrices, or why not.
pub(crate) fn cooperative_matrices(adapter: &AdapterSummary) -> String {
    match adapter.device.cooperative_matrix {
        None => {
            "not used: the driver has none that are square, f16 into f32, together with f16 and subgroups".to_owned()
        }
        Some(side) if adapter.device.class == Class::Software => {
            format!("{side} x {side}, f16 into f32; not used: software drivers have variants of their own")
        }
        Some(side) => format!("{side} x {side}, f16 into f32; in mixed precision, where they pass a test at its start"),
    }
}

/// What the engine would use on an adapter.
pub(crate) fn uses(adapter: &AdapterSummary) -> String {
    let class = match adapter.device.class {
        Class::Software => "software",
        Class::Integrated => "integrated",
        Class::Discrete => "discrete",
    };
    match adapter.device.subgroup_size {
        Some(size) => format!("{class} variants, subgroups of {size}"),
        None => format!("{class} variants without subgroups"),
    }
}
