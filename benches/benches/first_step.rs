//! Time to the first step with the driver's cache of compiled shaders empty (cold) and filled (warm), each in a process of
//! its own: `cargo bench --bench first_step -- [PRESET] [ADAPTER]`, by default presets nano and s on llvmpipe.

use std::{error::Error, path::Path, process::Command, sync::Arc, time::Instant};

use evenkeel_train::{
    Compute, Setup, Trainer,
    settings::{Settings, Sources},
};

/// What a process does until its second step has ended.
const PARTS: [&str; 6] = ["device", "record", "weights", "kernels", "step 1", "step 2"];
/// Parts that stand before the end of the first step.
const FIRST: usize = 5;
/// What tells drivers where they keep what they compiled: Mesa's and NVIDIA's.
const CACHES: [&str; 2] = ["MESA_SHADER_CACHE_DIR", "__GL_SHADER_DISK_CACHE_PATH"];
/// First argument of a process that is measured.
const CHILD: &str = "measured";

fn main() -> Result<(), Box<dyn Error>> {
    // SAFETY: this is the first thing that the process does.
    unsafe { evenkeel_gpu::prepare_environment() };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let [CHILD, preset, adapter] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        let seconds = pollster::block_on(measure(preset, adapter))?;
        println!("{}", seconds.map(|seconds| seconds.to_string()).join(" "));
        return Ok(());
    }
    let presets = arguments.first().map_or(vec!["nano", "s"], |preset| vec![preset.as_str()]);
    let adapter = arguments.get(1).map_or("llvmpipe", String::as_str);
    let parts: String = PARTS.iter().map(|part| format!("{part:>10}")).collect();
    println!("{:<8}{:<12}{:<6}{:>14}{parts}", "preset", "adapter", "cache", "first step s");
    for preset in presets {
        let cache = std::env::temp_dir().join(format!("evenkeel-first-step-{}", std::process::id()));
        std::fs::create_dir_all(&cache)?;
        let seconds = ["cold", "warm"].map(|state| child(preset, adapter, &cache).map(|seconds| (state, seconds)));
        std::fs::remove_dir_all(&cache)?;
        for outcome in seconds {
            let (state, seconds) = outcome?;
            print(preset, adapter, state, &seconds);
        }
    }
    Ok(())
}

fn print(preset: &str, adapter: &str, cache: &str, seconds: &[f64]) {
    let first: f64 = seconds[..FIRST].iter().sum();
    let parts: String = seconds.iter().map(|seconds| format!("{seconds:>10.2}")).collect();
    println!("{preset:<8}{adapter:<12}{cache:<6}{first:>14.2}{parts}");
}

/// Seconds of the parts in a new process.
fn child(preset: &str, adapter: &str, cache: &Path) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([CHILD, preset, adapter]).envs(CACHES.map(|name| (name, cache)));
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

async fn measure(preset: &str, adapter: &str) -> Result<[f64; PARTS.len()], Box<dyn Error>> {
    let mut last = Instant::now();
    let mut lap = || std::mem::replace(&mut last, Instant::now()).elapsed().as_secs_f64();
    let compute = Compute::Gpu(Arc::new(evenkeel_gpu::select(Some(adapter)).await?.open().await?));
    let device = lap();
    let set = vec![format!("model.preset={preset}")];
    let settings = Settings::resolve(&Sources { set, ..Sources::default() })?;
    let setup = Setup::new(&settings, &compute)?;
    let record = lap();
    let weights = setup.weights.load(&setup.config)?;
    let drawn = lap();
    let mut executor = setup.program.prepare(&compute, &weights, &mut |_, _| ()).await?;
    let kernels = lap();
    let mut trainer = Trainer::new(&setup.program, setup.batches, 1)?;
    trainer.step(&mut executor, 1, 1e-3, false).await?;
    let first = lap();
    trainer.step(&mut executor, 2, 1e-3, false).await?;
    Ok([device, record, drawn, kernels, first, lap()])
}
