//! Every kernel of a training step, on the extents that the step has, in every variant that the adapter runs; and matrix
//! products of round extents: `cargo bench --bench kernels -- [KERNEL] [PRESET] [ADAPTER]`, where KERNEL is a part of a
//! kernel's name. The variant that a step uses is marked. Shares are of two ceilings, measured in the same run: a copy of
//! 64 MiB, and the best variant of the products of 1024 x 1024 matrices.

use std::{collections::HashSet, error::Error, time::Duration};

use evenkeel_gpu::{Gpu, Kernel};
use evenkeel_schedule::Phase;
use evenkeel_shaders::{CARDS, Card, DType, Params, Precision, Variant};
use evenkeel_train::{
    Compute, Setup,
    settings::{Settings, Sources},
};

/// Timed submits of a variant: an odd number, for the median.
const SAMPLES: usize = 5;
/// How long a variant is timed: longer than all samples of a good one take.
const PATIENCE: Duration = Duration::from_millis(500);
/// Elements of the copy whose speed is the ceiling.
const COPIED: usize = 1 << 24;

struct Row {
    card: &'static Card,
    variant: &'static Variant,
    params: Params,
    used: bool,
    seconds: f64,
}

impl Row {
    fn gflops(&self) -> f64 {
        (self.card.flops)(&self.params) as f64 / self.seconds / 1e9
    }

    fn gigabytes(&self) -> f64 {
        self.card.bytes(&self.params, Precision::F32) as f64 / self.seconds / 1e9
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
    let (copy, product) = ceilings(&gpu).await?;
    let mut rows = Vec::new();
    for (card, params) in shapes(preset)? {
        if card.name.contains(kernel) {
            time(&gpu, card, &params, &mut rows).await?;
        }
    }
    println!("ceilings: copy {copy:.1} GB/s, best 1024^3 product {product:.1} GFLOP/s");
    println!(
        "{:<26}{:<30}{:>10}{:>8}{:>7}{:>10}{:>7}  extents",
        "kernel", "variant", "ms", "GB/s", "share", "GFLOP/s", "share"
    );
    for row in &rows {
        println!(
            "{:<26}{:<30}{:>10.3}{:>8.2}{:>5.0} %{:>10.2}{:>5.0} %  {}",
            row.card.name,
            format!("{}{}", if row.used { "* " } else { "  " }, row.variant.name),
            row.seconds * 1e3,
            row.gigabytes(),
            100.0 * row.gigabytes() / copy,
            row.gflops(),
            100.0 * row.gflops() / product,
            row.params,
        );
    }
    Ok(())
}

/// GB/s, read and written, of a scaling of 64 MiB, and GFLOP/s of the best product of 1024 x 1024 matrices.
async fn ceilings(gpu: &Gpu) -> Result<(f64, f64), Box<dyn Error>> {
    let card = CARDS.iter().copied().find(|card| card.name == "scale").ok_or("no kernel scale")?;
    let mut copies = Vec::new();
    time(gpu, card, &Params::dims([("N", COPIED)]).with_scalar("alpha", 1.0), &mut copies).await?;
    let mut products = Vec::new();
    for card in matmuls() {
        time(gpu, card, &product(card, [1024; 3]), &mut products).await?;
    }
    let copy = copies.iter().filter(|row| row.used).map(Row::gigabytes).fold(0.0, f64::max);
    Ok((copy, products.iter().map(Row::gflops).fold(0.0, f64::max)))
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

async fn time(gpu: &Gpu, card: &'static Card, params: &Params, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let used = card.variant(&gpu.profile(), params, Precision::F32).map(|variant| variant.name);
    // Small numbers: nothing overflows, and zeros are no shortcut for a processor. Indices are zeros.
    let fill = |arg: &evenkeel_shaders::Arg| -> Vec<u8> {
        let number = |i: usize| 0.01 * ((i % 97) as f32 - 48.0);
        let bytes = |i: usize| if arg.dtype == DType::F32 { number(i).to_le_bytes() } else { [0; 4] };
        (0..arg.len(params)).flat_map(bytes).collect()
    };
    let arguments: Vec<_> = card.args.iter().map(fill).collect();
    for variant in card.variants.iter().filter(|variant| variant.runs(&gpu.profile(), params)) {
        let mut times = gpu.time_dispatch(Kernel::f32(card, variant), params, &arguments, SAMPLES, PATIENCE).await?;
        times.sort_by(f64::total_cmp);
        let seconds = times[times.len() / 2];
        rows.push(Row { card, variant, params: params.clone(), used: used == Some(variant.name), seconds });
    }
    Ok(())
}
