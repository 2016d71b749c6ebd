//! Every kernel of a training step, on the extents that the step has, in every variant that the adapter runs; and matrix
//! products of round extents: `cargo bench --bench kernels -- [KERNEL] [PRESET] [ADAPTER]`, where KERNEL is a part of a
//! kernel's name. Products in f32 and as a mixed step has them, all else in f32. The variant that a step uses is marked.
//! Shares are of two ceilings, measured in the same run: a copy of 64 MiB, and the best variant of the f32 products of
//! square matrices (1024, on discrete GPUs 4096).

use std::{collections::HashSet, error::Error, time::Duration};

use evenkeel_gpu::{Gpu, Kernel};
use evenkeel_schedule::Phase;
use evenkeel_shaders::{Arg, CARDS, Card, DType, Form, Params, Precision, Variant, trial::words};
use evenkeel_train::{
    Compute, Setup,
    settings::{Settings, Sources},
    speed::matmul_extent,
};

/// Timed submits of a variant: an odd number, for the median.
const SAMPLES: usize = 3;
/// How long a variant is timed: longer than all samples of a good one take.
const PATIENCE: Duration = Duration::from_millis(500);
/// Elements of the copy whose speed is the ceiling.
const COPIED: usize = 1 << 24;

/// What nothing is faster than.
struct Ceilings {
    copy: f64,
    product: f64,
}

struct Row {
    card: &'static Card,
    variant: &'static Variant,
    precision: Precision,
    params: Params,
    used: bool,
    seconds: f64,
}

impl Row {
    fn gflops(&self) -> f64 {
        (self.card.flops)(&self.params) as f64 / self.seconds / 1e9
    }

    fn gigabytes(&self) -> f64 {
        self.card.bytes(&self.params, self.precision) as f64 / self.seconds / 1e9
    }

    fn print(&self, ceilings: &Ceilings) {
        println!(
            "{:<26}{:<13}{:<30}{:>10.3}{:>8.2}{:>5.0} %{:>10.2}{:>5.0} %  {}",
            self.card.name,
            self.precision,
            format!("{}{}", if self.used { "* " } else { "  " }, self.variant.name),
            self.seconds * 1e3,
            self.gigabytes(),
            100.0 * self.gigabytes() / ceilings.copy,
            self.gflops(),
            100.0 * self.gflops() / ceilings.product,
            self.params,
        );
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // SAFETY: this is the first thing that the process does.
    unsafe { evenkeel_gpu::prepare_environment() };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let word = |index: usize, default: &'static str| arguments.get(index).map_or(default, String::as_str).to_owned();
    pollster::block_on(measure(&word(0, ""), &word(1, "nano"), &word(2, "llvmpipe")))
}

async fn measure(kernel: &str, preset: &str, adapter: &str) -> Result<(), Box<dyn Error>> {
    let gpu = evenkeel_gpu::select(Some(adapter)).await?.open().await?;
    println!("{}", gpu.adapter());
    let extent = matmul_extent(gpu.profile().class);
    let ceilings = ceilings(&gpu, extent).await?;
    println!("ceilings: copy {:.1} GB/s, best {extent}^3 product {:.1} GFLOP/s", ceilings.copy, ceilings.product);
    println!(
        "{:<26}{:<13}{:<30}{:>10}{:>8}{:>7}{:>10}{:>7}  extents",
        "kernel", "precision", "variant", "ms", "GB/s", "share", "GFLOP/s", "share"
    );
    for (card, params) in shapes(preset)? {
        if !card.name.contains(kernel) {
            continue;
        }
        let product = card.name.starts_with("matmul");
        for precision in if product { vec![Precision::F32, Precision::F16] } else { vec![Precision::F32] } {
            // Printed as they come: what is cut off has shown what it measured.
            time(&gpu, card, precision, &params, |row| row.print(&ceilings)).await?;
        }
    }
    Ok(())
}

/// GB/s, read and written, of a scaling of 64 MiB, and GFLOP/s of the best product of square matrices.
async fn ceilings(gpu: &Gpu, extent: usize) -> Result<Ceilings, Box<dyn Error>> {
    let card = CARDS.iter().copied().find(|card| card.name == "scale").ok_or("no kernel scale")?;
    let copied = Params::dims([("N", COPIED)]).with_scalar("alpha", 1.0);
    let mut ceilings = Ceilings { copy: 0.0, product: 0.0 };
    time(gpu, card, Precision::F32, &copied, |row| {
        if row.used {
            ceilings.copy = row.gigabytes();
        }
    })
    .await?;
    for card in matmuls() {
        let best = |row: &Row| ceilings.product = ceilings.product.max(row.gflops());
        time(gpu, card, Precision::F32, &product(card, [extent; 3]), best).await?;
    }
    Ok(ceilings)
}

fn matmuls() -> impl Iterator<Item = &'static Card> {
    CARDS.iter().copied().filter(|card| card.name.starts_with("matmul"))
}

/// Params of a product of these M, N and K, without padding.
fn product(card: &Card, [m, n, k]: [usize; 3]) -> Params {
    let mut params = Params::dims([("M", m), ("N", n), ("K", k)]);
    for param in card.params {
        params = match param.name() {
            "y_stride" => params.with_dim("y_stride", n),
            "x_stride" => params.with_dim("x_stride", if card.name == "matmul_tn" { m } else { k }),
            "accumulate" => params.with_dim("accumulate", 0),
            _ => params,
        };
    }
    params
}

/// What a training step of the preset computes, each once, and some products.
fn shapes(preset: &str) -> Result<Vec<(&'static Card, Params)>, Box<dyn Error>> {
    let mut shapes = Vec::new();
    for card in matmuls() {
        for extents in [[512, 512, 512], [1024, 1024, 1024], [2048, 688, 256], [2048, 256, 688]] {
            shapes.push((card, product(card, extents)));
        }
    }
    let mut seen = HashSet::new();
    for arch in ["llama", "kat"] {
        let set =
            vec![format!("model.preset={preset}"), format!("model.arch={arch}"), "data.tokenizer=bytes".to_owned()];
        let settings = Settings::resolve(&Sources { set, ..Sources::default() })?;
        let setup = Setup::new(&settings, &Compute::Cpu)?;
        let schedule = &setup.program.schedule;
        for phase in [Phase::ForwardBackward, Phase::Update] {
            for step in &schedule.steps()[schedule.phase(phase)] {
                if seen.insert(format!("{} {}", step.card.name, step.params)) {
                    shapes.push((step.card, step.params.clone()));
                }
            }
        }
    }
    shapes.sort_by_key(|(card, _)| card.name);
    Ok(shapes)
}

/// Times every variant that the adapter runs, and hands each row on.
async fn time(
    gpu: &Gpu,
    card: &'static Card,
    precision: Precision,
    params: &Params,
    mut told: impl FnMut(&Row),
) -> Result<(), Box<dyn Error>> {
    let form = Form::of(precision, &gpu.profile());
    let used = card.variant(&gpu.profile(), params, precision).map(|variant| variant.name);
    let arguments: Vec<Vec<u8>> = card.args.iter().map(|arg| contents(arg, params, precision)).collect();
    let runs = |variant: &&Variant| variant.runs(&gpu.profile(), params) && variant.stores(form);
    for variant in card.variants.iter().filter(runs) {
        let kernel = Kernel { card, variant, form };
        let mut times = gpu.time_dispatch(kernel, params, &arguments, SAMPLES, PATIENCE).await?;
        times.sort_by(f64::total_cmp);
        let seconds = times[times.len() / 2];
        told(&Row { card, variant, precision, params: params.clone(), used: used == Some(variant.name), seconds });
    }
    Ok(())
}

/// Small numbers: nothing overflows, and zeros are no shortcut for a processor. Rows sorted by token are shared out evenly;
/// other indices are zeros.
fn contents(arg: &Arg, params: &Params, precision: Precision) -> Vec<u8> {
    let len = arg.len(params);
    let number = |i: usize| match (arg.dtype, arg.name) {
        (DType::U32, "start") => (i * params.dim("R") / len) as f64,
        (DType::U32, "order") => i as f64,
        (DType::U32, _) => 0.0,
        (DType::F32 | DType::F16, _) => 0.01 * ((i % 97) as f64 - 48.0),
    };
    let numbers: Vec<f64> = (0..len).map(number).collect();
    words(&numbers, arg.stored(precision)).iter().flat_map(|word| word.to_le_bytes()).collect()
}
