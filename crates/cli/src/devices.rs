//! `evenkeel devices`: the adapter that would be used first.

use crate::{
    Outcome,
    adapter::{CPU, cooperative_matrices, cpu_line, products, unknown, uses},
    output::{line, size},
};

/// Lists adapters; with `--adapter` only those that match.
pub(crate) async fn run(text: Option<&str>) -> Outcome {
    if text.is_some_and(|text| text != CPU) {
        evenkeel_gpu::select(text).await.map_err(|error| unknown(&error))?;
    }
    for adapter in evenkeel_gpu::adapters().await {
        if text.is_some_and(|text| !adapter.matches(text)) {
            continue;
        }
        line(&adapter.to_string());
        line(&format!(
            "  buffers up to {}, bindings up to {}, workgroups of {} lanes with {}",
            size(adapter.max_buffer_bytes),
            size(adapter.max_binding_bytes),
            adapter.max_workgroup_lanes,
            size(u64::from(adapter.max_workgroup_bytes)),
        ));
        line(&format!("  optional features: {}", adapter.features.join(", ")));
        line(&format!("  would use: {}", uses(&adapter)));
        line(&format!("  matrix products, the first that fits: {}", products(&adapter)));
        line(&format!("  cooperative matrices: {}", cooperative_matrices(&adapter)));
    }
    line(&cpu_line());
    line("  always there: --adapter cpu");
    Ok(())
}
