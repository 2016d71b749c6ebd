//! `evenkeel bench`.

mod largest;

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use evenkeel_train::{
    StepRecord,
    settings::{Arch, Precision},
    speed::{Bench, Ceilings, ceilings},
};
use serde_json::json;

use crate::{
    Outcome, adapter,
    output::{self, count, size},
};

/// Steps before the timed ones, and the fewest timed ones: an odd number, for the median.
const WARM: usize = 2;
const TIMED: usize = 7;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  evenkeel bench --preset nano --preset s\n  evenkeel bench --model llama --precision f32 --precision mixed\n  evenkeel bench --largest"
)]
pub(crate) struct Arguments {
    /// Shapes of models to train: nano, s, m or l
    #[arg(long, value_name = "NAME", default_value = "nano")]
    preset: Vec<String>,
    /// Models: llama, kat; without it, both
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Arch::ALL.iter().map(|arch| arch.name())))]
    model: Vec<String>,
    /// Precisions of their training: f32, mixed
    #[arg(
        long,
        value_name = "NAME",
        default_value = Precision::F32.name(),
        value_parser = PossibleValuesParser::new(Precision::ALL.iter().map(|precision| precision.name()))
    )]
    precision: Vec<String>,
    /// Seconds that each model is timed for, 7 steps at least
    #[arg(long, value_name = "N", default_value_t = 0)]
    seconds: u32,
    /// Says which model is the largest for which memory, in place of all figures; nothing is allocated
    #[arg(long, conflicts_with_all = ["preset", "model", "precision", "seconds"])]
    largest: bool,
    /// One line of JSON instead of the table
    #[arg(long)]
    json: bool,
}

/// A model's figures.
struct Row {
    preset: String,
    model: &'static str,
    precision: &'static str,
    tokens_per_s: f64,
    seconds: f64,
    /// Seconds that the host works for a step: for its batch, for recording, and inside of submits.
    host: [f64; 3],
    dispatches: usize,
    planned_bytes: u64,
    allocated_bytes: Option<u64>,
    first_step: f64,
}

pub(crate) async fn run(arguments: Arguments, adapter: Option<&str>) -> Outcome {
    let compute = adapter::open(adapter).await?;
    if arguments.largest {
        return largest::run(&compute, arguments.json);
    }
    output::note("copy and matrix products");
    let ceilings = ceilings(&compute).await?;
    let (mut rows, mut failure) = (Vec::new(), None);
    for preset in &arguments.preset {
        let wanted =
            |arch: &&Arch| arguments.model.is_empty() || arguments.model.iter().any(|name| name == arch.name());
        for &arch in Arch::ALL.iter().filter(wanted) {
            let chosen = |precision: &&Precision| arguments.precision.iter().any(|name| name == precision.name());
            for &precision in Precision::ALL.iter().filter(chosen) {
                output::note(&format!("{preset}, {}, {}", arch.name(), precision.name()));
                // What does not fit, such as a width that mixed precision cannot store, leaves the others their rows.
                match Bench::new(arch, preset, precision, &compute).await {
                    Ok(bench) => rows.push(measure(bench, preset, arguments.seconds).await?),
                    Err(error) => {
                        output::note(&format!("not measured: {error}"));
                        failure = Some(error);
                    }
                }
            }
        }
    }
    if let (true, Some(error)) = (rows.is_empty(), failure) {
        return Err(error.into());
    }
    let name = compute.name();
    if arguments.json {
        let rows = rows.iter().map(|row| {
            json!({
                "preset": row.preset,
                "model": row.model,
                "precision": row.precision,
                "tokens_per_s": row.tokens_per_s,
                "ms": row.seconds * 1e3,
                "host_batch_ms": row.host[0] * 1e3,
                "host_record_ms": row.host[1] * 1e3,
                "host_submit_ms": row.host[2] * 1e3,
                "dispatches": row.dispatches,
                "planned_bytes": row.planned_bytes,
                "allocated_bytes": row.allocated_bytes,
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

async fn measure(mut bench: Bench, preset: &str, least: u32) -> Result<Row, Box<dyn std::error::Error>> {
    let warm = bench.steps(WARM).await?;
    let step = warm.last().map_or(f64::MAX, |record| record.time.as_secs_f64());
    let timed = TIMED.max((f64::from(least) / step) as usize) | 1;
    let records = bench.steps(timed).await?;
    let median = |of: fn(&StepRecord) -> Duration| {
        let mut times: Vec<_> = records.iter().map(of).collect();
        times.sort();
        times[timed / 2].as_secs_f64()
    };
    let seconds = median(|record| record.time);
    Ok(Row {
        preset: preset.to_owned(),
        model: bench.arch.name(),
        precision: bench.precision.name(),
        tokens_per_s: bench.trainer.tokens_per_step() as f64 / seconds,
        seconds,
        host: [
            median(|record| record.host.batches),
            median(|record| record.host.record),
            median(|record| record.host.submit),
        ],
        dispatches: bench.dispatches(),
        planned_bytes: bench.planned_bytes(),
        allocated_bytes: bench.allocated_bytes(),
        first_step: bench.first_step,
    })
}

fn table(ceilings: Ceilings, rows: &[Row]) {
    output::line(&format!("copy of 64 MiB     {}B/s", count(ceilings.copy_bytes_per_s)));
    output::line(&format!("best 1024^3 matmul {}FLOP/s", count(ceilings.matmul_flop_per_s)));
    output::line(&format!(
        "{:<8}{:<8}{:<10}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}{:>14}",
        "preset",
        "model",
        "precision",
        "tokens/s",
        "ms/step",
        "host ms",
        "dispatches",
        "planned",
        "allocated",
        "first step s"
    ));
    for row in rows {
        output::line(&format!(
            "{:<8}{:<8}{:<10}{:>10.0}{:>12.1}{:>12.2}{:>12}{:>12}{:>12}{:>14.2}",
            row.preset,
            row.model,
            row.precision,
            row.tokens_per_s,
            row.seconds * 1e3,
            (row.host[0] + row.host[1]) * 1e3,
            row.dispatches,
            size(row.planned_bytes),
            row.allocated_bytes.map_or("-".to_owned(), size),
            row.first_step,
        ));
    }
    output::line(
        "host ms: batches and recording; drivers may do the work itself inside of submits (--json has their time)",
    );
    let rate = |row: &Row| format!("{} {} {} {:.0}", row.preset, row.model, row.precision, row.tokens_per_s);
    let rates = rows.iter().map(rate);
    let rates = rates.collect::<Vec<_>>().join(", ");
    output::line(&format!("tokens/s, to compare with the README's section Measured: {rates}"));
}
