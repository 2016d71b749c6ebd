//! `evenkeel bench`.

mod largest;

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use evenkeel_train::{
    Compute, ComputeName, StepRecord, TrainError,
    settings::{Arch, Precision},
    speed::{Bench, Ceilings, ceilings},
};
use serde_json::{Value, json};

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

impl Arguments {
    fn wanted(&self) -> impl Iterator<Item = (&str, Arch, Precision)> {
        let archs = Arch::ALL.iter().copied().filter(|arch| self.model.is_empty() || named(&self.model, arch.name()));
        let precisions = Precision::ALL.iter().copied().filter(|precision| named(&self.precision, precision.name()));
        let models = archs.flat_map(move |arch| precisions.clone().map(move |precision| (arch, precision)));
        let presets = self.preset.iter();
        presets.flat_map(move |preset| models.clone().map(move |(arch, precision)| (preset.as_str(), arch, precision)))
    }
}

fn named(names: &[String], name: &str) -> bool {
    names.iter().any(|known| known == name)
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "preset": self.preset,
            "model": self.model,
            "precision": self.precision,
            "tokens_per_s": self.tokens_per_s,
            "ms": self.seconds * 1e3,
            "host_batch_ms": self.host[0] * 1e3,
            "host_record_ms": self.host[1] * 1e3,
            "host_submit_ms": self.host[2] * 1e3,
            "dispatches": self.dispatches,
            "planned_bytes": self.planned_bytes,
            "allocated_bytes": self.allocated_bytes,
            "first_step_s": self.first_step,
        })
    }

    fn line(&self) -> String {
        format!(
            "{:<8}{:<8}{:<10}{:>10.0}{:>12.1}{:>12.2}{:>12}{:>12}{:>12}{:>14.2}",
            self.preset,
            self.model,
            self.precision,
            self.tokens_per_s,
            self.seconds * 1e3,
            (self.host[0] + self.host[1]) * 1e3,
            self.dispatches,
            size(self.planned_bytes),
            self.allocated_bytes.map_or("-".to_owned(), size),
            self.first_step,
        )
    }
}

pub(crate) async fn run(arguments: Arguments, adapter: Option<&str>) -> Outcome {
    let compute = adapter::open(adapter).await?;
    if arguments.largest {
        return largest::run(&compute, arguments.json);
    }
    output::note("copy and matrix products");
    let ceilings = ceilings(&compute).await?;
    let (mut rows, mut failure) = (Vec::new(), None);
    for (preset, arch, precision) in arguments.wanted() {
        output::note(&format!("{preset}, {}, {}", arch.name(), precision.name()));
        // What does not fit, such as a width that mixed precision cannot store, leaves the others their rows.
        match measure(arch, preset, precision, arguments.seconds, &compute).await {
            Ok(row) => {
                if !arguments.json {
                    // As they come: what is interrupted has shown what it measured.
                    if rows.is_empty() {
                        head(ceilings);
                    }
                    output::line(&row.line());
                }
                rows.push(row);
            }
            Err(error) => {
                output::note(&format!("not measured: {error}"));
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if rows.is_empty() => return Err(error.into()),
        _ if arguments.json => output::line(&report(&compute.name(), ceilings, &rows).to_string()),
        _ => foot(&rows),
    }
    Ok(())
}

fn report(name: &ComputeName, ceilings: Ceilings, rows: &[Row]) -> Value {
    json!({
        "engine_version": env!("CARGO_PKG_VERSION"),
        "adapter": name.adapter,
        "driver": name.driver,
        "backend": name.backend,
        "copy_bytes_per_s": ceilings.copy_bytes_per_s,
        "matmul_flop_per_s": ceilings.matmul_flop_per_s,
        "matmul_extent": ceilings.matmul_extent,
        "steps": rows.iter().map(Row::json).collect::<Vec<_>>(),
    })
}

async fn measure(
    arch: Arch,
    preset: &str,
    precision: Precision,
    least: u32,
    compute: &Compute,
) -> Result<Row, TrainError> {
    let mut bench = Bench::new(arch, preset, precision, compute).await?;
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

fn head(ceilings: Ceilings) {
    output::line(&format!("copy of 64 MiB     {}B/s", count(ceilings.copy_bytes_per_s)));
    output::line(&format!("best {}^3 matmul {}FLOP/s", ceilings.matmul_extent, count(ceilings.matmul_flop_per_s)));
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
}

fn foot(rows: &[Row]) {
    output::line(
        "host ms: batches and recording; drivers may do the work itself inside of submits (--json has their time)",
    );
    let rate = |row: &Row| format!("{} {} {} {:.0}", row.preset, row.model, row.precision, row.tokens_per_s);
    let rates = rows.iter().map(rate);
    let rates = rates.collect::<Vec<_>>().join(", ");
    output::line(&format!("tokens/s, to compare with the README's section Measured: {rates}"));
}
