//! Tokens per second of whole training steps of both models, what TVR and the instruments add, and where the time of a
//! step goes: `cargo bench --bench step -- [PRESET] [ADAPTER]`, by default every measured pair. Both models are there at
//! the same time: the allocated bytes are those of both.

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Instant};

use evenkeel_schedule::Phase;
use evenkeel_train::{
    Compute, Executor,
    settings::{Arch, Precision},
    speed::Bench,
};

/// Steps before the timed ones, and the timed ones: an odd number, for the median.
const WARM: u64 = 3;
const TIMED: u64 = 15;
/// Steps from one check of TVR, and one row of the instruments, to the next, that their cost is spread over.
const INTERVAL: f64 = 50.0;

fn main() -> Result<(), Box<dyn Error>> {
    // SAFETY: this is the first thing that the process does.
    unsafe { evenkeel_gpu::prepare_environment() };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let presets = arguments.first().map_or(vec!["nano", "s"], |preset| vec![preset.as_str()]);
    let adapters = arguments.get(1).map_or(vec!["cpu", "llvmpipe"], |adapter| vec![adapter.as_str()]);
    for preset in presets {
        for adapter in &adapters {
            pollster::block_on(measure(preset, adapter))?;
        }
    }
    Ok(())
}

/// A model on its device, the times of its steps, and the host's share of them: batches and recording.
struct Model {
    bench: Bench,
    times: Vec<f64>,
    hosts: Vec<f64>,
}

impl Model {
    /// Median time of some phases, waited for.
    async fn phases(&mut self, phases: &[Phase]) -> Result<f64, Box<dyn Error>> {
        let mut times = Vec::new();
        for _ in 0..TIMED {
            let start = Instant::now();
            for &phase in phases {
                self.bench.executor.run(phase).await?;
            }
            if let Executor::Gpu(gpu) = &mut self.bench.executor {
                gpu.wait().await?;
            }
            times.push(start.elapsed().as_secs_f64());
        }
        Ok(median(&mut times))
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The models take turns, so that what else the machine does meets all alike.
async fn measure(preset: &str, adapter: &str) -> Result<(), Box<dyn Error>> {
    let compute = match adapter {
        "cpu" => Compute::Cpu,
        name => Compute::Gpu(Arc::new(evenkeel_gpu::select(Some(name)).await?.open().await?)),
    };
    let mut models = Vec::new();
    for &arch in Arch::ALL {
        models.push(Model {
            bench: Bench::new(arch, preset, Precision::F32, &compute).await?,
            times: Vec::new(),
            hosts: Vec::new(),
        });
    }
    for step in 2..2 + WARM + TIMED {
        for model in &mut models {
            for record in model.bench.steps(1).await? {
                if step >= 2 + WARM {
                    model.times.push(record.time.as_secs_f64());
                    model.hosts.push((record.host.batches + record.host.record).as_secs_f64());
                }
            }
        }
    }
    let of_first = median(&mut models[0].times);
    let (tvr, instruments) = (format!("TVR / {INTERVAL}"), format!("instruments / {INTERVAL}"));
    println!(
        "{:<8}{:<10}{:<7}{:>10}{:>9}{:>9}{:>7}{:>14}{:>11}{:>12}{:>14}{tvr:>11}{instruments:>18}",
        "preset",
        "adapter",
        "model",
        "tokens/s",
        "ms",
        "host ms",
        "ratio",
        "first step s",
        "dispatches",
        "planned MiB",
        "allocated MiB"
    );
    for model in &mut models {
        let time = median(&mut model.times);
        let share = |phases: f64| format!("{:.2} %", 100.0 * phases / time / INTERVAL);
        let tvr = share(model.phases(&[Phase::Rescale]).await?);
        let instruments = share(model.phases(&[Phase::Snapshot, Phase::Measure]).await?);
        println!(
            "{preset:<8}{adapter:<10}{:<7}{:>10.0}{:>9.1}{:>9.2}{:>7.2}{:>14.2}{:>11}{:>12.1}{:>14}{tvr:>11}{instruments:>18}",
            model.bench.arch.name(),
            model.bench.trainer.tokens_per_step() as f64 / time,
            time * 1e3,
            median(&mut model.hosts) * 1e3,
            time / of_first,
            model.bench.first_step,
            model.bench.dispatches(),
            mebibytes(model.bench.planned_bytes()),
            model.bench.allocated_bytes().map_or("-".to_owned(), |bytes| format!("{:.1}", mebibytes(bytes))),
        );
    }
    for model in &mut models {
        println!("  {}", model.bench.arch.name());
        kernels(&mut model.bench.executor).await?;
    }
    Ok(())
}

/// Time by kernel of one step, each waited for: on a GPU that adds a round trip per kernel.
async fn kernels(executor: &mut Executor) -> Result<(), Box<dyn Error>> {
    let schedule = executor.schedule().clone();
    let mut by_kernel: BTreeMap<&str, (u32, f64, u64)> = BTreeMap::new();
    for phase in [Phase::ForwardBackward, Phase::Update, Phase::Rescale, Phase::Measure] {
        for index in schedule.phase(phase) {
            let step = &schedule.steps()[index];
            let start = Instant::now();
            executor.run_step(index).await?;
            if let Executor::Gpu(gpu) = executor {
                gpu.wait().await?;
            }
            let entry = by_kernel.entry(step.card.name).or_default();
            *entry = (entry.0 + 1, entry.1 + start.elapsed().as_secs_f64(), entry.2 + (step.card.flops)(&step.params));
        }
    }
    let mut rows: Vec<_> = by_kernel.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (kernel, (count, seconds, flops)) in rows {
        println!(
            "    {kernel:<22}{count:>4} x {:>8.2} ms {:>8.2} GFLOP/s",
            seconds * 1e3,
            flops as f64 / seconds / 1e9
        );
    }
    Ok(())
}
