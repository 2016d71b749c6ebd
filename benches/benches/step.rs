//! Tokens per second of whole training steps, and where the time of a CPU step goes:
//! `cargo bench --bench step -- [PRESET] [ADAPTER]`, by default every measured pair.

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Instant};

use evenkeel_schedule::Phase;
use evenkeel_train::{
    Compute, Executor, Setup, Trainer,
    settings::{Settings, Sources},
};

/// Steps before the timed ones, and the timed ones: an odd number, for the median.
const WARM: u64 = 3;
const TIMED: u64 = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let presets = arguments.first().map_or(vec!["nano", "s"], |preset| vec![preset.as_str()]);
    let adapters = arguments.get(1).map_or(vec!["cpu", "llvmpipe"], |adapter| vec![adapter.as_str()]);
    println!("{:<8}{:<10}{:>12}{:>10}{:>14}", "preset", "adapter", "tokens/s", "ms", "first step s");
    for preset in presets {
        for adapter in &adapters {
            pollster::block_on(measure(preset, adapter))?;
        }
    }
    Ok(())
}

async fn measure(preset: &str, adapter: &str) -> Result<(), Box<dyn Error>> {
    let settings = Settings::resolve(&Sources { set: vec![format!("model.preset={preset}")], ..Sources::default() })?;
    let compute = match adapter {
        "cpu" => Compute::Cpu,
        name => Compute::Gpu(Arc::new(evenkeel_gpu::select(Some(name)).await?.open().await?)),
    };
    let start = Instant::now();
    let setup = Setup::new(&settings, &compute)?;
    let weights = setup.weights.load(&setup.config)?;
    let mut executor = setup.program.prepare(&compute, &weights, &mut |_, _| ()).await?;
    let mut trainer = Trainer::new(&setup.program, setup.batches, 1)?;
    trainer.step(&mut executor, 1, 1e-3, false).await?;
    let first = start.elapsed();
    let mut times = Vec::new();
    for step in 2..2 + WARM + TIMED {
        let start = Instant::now();
        trainer.step(&mut executor, step, 1e-3, false).await?;
        times.push(start.elapsed().as_secs_f64());
    }
    let mut timed = times.split_off(WARM as usize);
    timed.sort_by(f64::total_cmp);
    let median = timed[timed.len() / 2];
    let rate = trainer.tokens_per_step() as f64 / median;
    println!("{preset:<8}{adapter:<10}{rate:>12.0}{:>10.1}{:>14.2}", median * 1e3, first.as_secs_f64());
    kernels(&mut executor).await
}

/// Time by kernel of one step, each waited for: on a GPU that adds a round trip per kernel.
async fn kernels(executor: &mut Executor) -> Result<(), Box<dyn Error>> {
    let schedule = executor.schedule().clone();
    let mut by_kernel: BTreeMap<&str, (u32, f64, u64)> = BTreeMap::new();
    for phase in [Phase::ForwardBackward, Phase::Update] {
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
