//! `evenkeel bench`.

use evenkeel_train::{
    settings::Arch,
    speed::{Bench, Ceilings, ceilings},
};
use serde_json::json;

use crate::{
    Outcome, adapter,
    output::{self, count, size},
};

/// Steps before the timed ones, and the timed ones: an odd number, for the median.
const WARM: usize = 2;
const TIMED: usize = 7;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: evenkeel bench --preset nano --preset s")]
pub(crate) struct Arguments {
    /// Shapes of models to train: nano, s, m or l
    #[arg(long, value_name = "NAME", default_value = "nano")]
    preset: Vec<String>,
    /// One line of JSON instead of the table
    #[arg(long)]
    json: bool,
}

/// A model's figures.
struct Row {
    preset: String,
    model: &'static str,
    tokens_per_s: f64,
    seconds: f64,
    dispatches: usize,
    planned_bytes: u64,
    first_step: f64,
}

pub(crate) async fn run(arguments: Arguments, adapter: Option<&str>) -> Outcome {
    let compute = adapter::open(adapter).await?;
    output::note("copy and matrix products");
    let ceilings = ceilings(&compute).await?;
    let mut rows = Vec::new();
    for preset in &arguments.preset {
        for &arch in Arch::ALL {
            output::note(&format!("{preset}, {}", arch.name()));
            rows.push(measure(Bench::new(arch, preset, &compute).await?, preset).await?);
        }
    }
    let name = compute.name();
    if arguments.json {
        let rows = rows.iter().map(|row| {
            json!({
                "preset": row.preset,
                "model": row.model,
                "tokens_per_s": row.tokens_per_s,
                "ms": row.seconds * 1e3,
                "dispatches": row.dispatches,
                "planned_bytes": row.planned_bytes,
                "first_step_s": row.first_step,
            })
        });
        let report = json!({
            "engine_version": env!("CARGO_PKG_VERSION"),
            "adapter": name.adapter,
            "driver": name.driver,
            "backend": name.backend,
            "copy_bytes_per_s": ceilings.copy_bytes_per_s,
            "matmul_flop_per_s": ceilings.matmul_flop_per_s,
            "steps": rows.collect::<Vec<_>>(),
        });
        output::line(&report.to_string());
    } else {
        table(ceilings, &rows);
    }
    Ok(())
}

async fn measure(mut bench: Bench, preset: &str) -> Result<Row, Box<dyn std::error::Error>> {
    for _ in 0..WARM {
        bench.step().await?;
    }
    let mut times = Vec::new();
    for _ in 0..TIMED {
        times.push(bench.step().await?);
    }
    times.sort_by(f64::total_cmp);
    let seconds = times[TIMED / 2];
    Ok(Row {
        preset: preset.to_owned(),
        model: bench.arch.name(),
        tokens_per_s: bench.trainer.tokens_per_step() as f64 / seconds,
        seconds,
        dispatches: bench.dispatches(),
        planned_bytes: bench.planned_bytes(),
        first_step: bench.first_step,
    })
}

fn table(ceilings: Ceilings, rows: &[Row]) {
    output::line(&format!("copy of 64 MiB     {}B/s", count(ceilings.copy_bytes_per_s)));
    output::line(&format!("best 1024^3 matmul {}FLOP/s", count(ceilings.matmul_flop_per_s)));
    output::line(&format!(
        "{:<8}{:<8}{:>12}{:>12}{:>12}{:>12}{:>14}",
        "preset", "model", "tokens/s", "ms/step", "dispatches", "memory", "first step s"
    ));
    for row in rows {
        output::line(&format!(
            "{:<8}{:<8}{:>12.0}{:>12.1}{:>12}{:>12}{:>14.2}",
            row.preset,
            row.model,
            row.tokens_per_s,
            row.seconds * 1e3,
            row.dispatches,
            size(row.planned_bytes),
            row.first_step,
        ));
    }
    output::line("the README's section Measured has the same figures for other devices");
}
