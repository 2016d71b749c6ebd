//! Every kernel variant against its card's reference, each on the smallest case that it fits, within a time.

use std::time::{Duration, Instant};

use evenkeel_gpu::{Gpu, Kernel};
use evenkeel_shaders::{
    CARDS, Card, Form, Precision, Variant,
    trial::{Trial, trials},
};

use crate::progress;

/// Cards whose turn comes later are left out.
const LIMIT: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Default)]
pub(super) struct Verdict {
    cards: usize,
    variants: usize,
    /// Variants that this device cannot run, and cards that there was no time for.
    unable: usize,
    late: usize,
    pub(super) faults: Vec<String>,
    pub(super) time: Duration,
}

impl Verdict {
    pub(super) fn summary(&self) -> String {
        let mut text = format!("{} CPU kernels and {} GPU variants", self.cards, self.variants);
        if self.unable > 0 {
            text += &format!(" ({} more need what this device lacks)", self.unable);
        }
        if self.late > 0 {
            text += &format!(" ({} kernels left out after {} s)", self.late, LIMIT.as_secs());
        }
        text
    }
}

/// Checks the CPU kernels and, on a device, the variants that it can run.
pub(super) async fn check(gpu: Option<&Gpu>) -> Verdict {
    let start = Instant::now();
    let mut verdict = Verdict::default();
    let bar = progress::bar(CARDS.len() as u64, "checking [{bar:32}] {pos}/{len} kernels");
    for card in CARDS {
        if start.elapsed() > LIMIT {
            verdict.late += 1;
            continue;
        }
        let forward = CARDS.iter().copied().find(|other| other.gradients.contains(&card.name));
        match trials(card, forward) {
            Ok(trials) => check_card(card, &trials, gpu, &mut verdict).await,
            Err(fault) => verdict.faults.push(format!("{}: {fault}", card.name)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    verdict.time = start.elapsed();
    verdict
}

async fn check_card(card: &'static Card, trials: &[Trial], gpu: Option<&Gpu>, verdict: &mut Verdict) {
    let size = |trial: &&Trial| card.args.iter().map(|arg| arg.len(&trial.params)).sum::<usize>();
    let found = &mut verdict.faults;
    let mut judge = |name: &str, faults: Vec<String>| {
        found.extend(faults.first().map(|fault| format!("{} {name}: {fault}", card.name)));
    };
    let whole = |trial: &&Trial| trial.precision == Precision::F32;
    if let Some(trial) = trials.iter().filter(whole).min_by_key(size) {
        verdict.cards += 1;
        judge("cpu", trial.judge(card, None, &trial.run_cpu(card)));
    }
    let Some(gpu) = gpu else { return };
    for variant in card.variants {
        if !variant.able(&gpu.profile()) {
            verdict.unable += 1;
            continue;
        }
        verdict.variants += 1;
        let stores = |precision: &Precision| variant.stores(Form::of(*precision, &gpu.profile()));
        for precision in card.precisions().into_iter().filter(stores) {
            let fits = |trial: &&Trial| trial.precision == precision && (variant.fits)(&trial.params);
            if let Some(trial) = trials.iter().filter(fits).min_by_key(size) {
                judge(&format!("{} in {precision}", variant.name), run(gpu, card, variant, trial).await);
            }
        }
    }
}

async fn run(gpu: &Gpu, card: &'static Card, variant: &'static Variant, trial: &Trial) -> Vec<String> {
    let mut bytes: Vec<Vec<u8>> = trial.guarded().iter().map(|words| words_to_bytes(words)).collect();
    let form = Form::of(trial.precision, &gpu.profile());
    if let Err(error) = gpu.dispatch_once(Kernel { card, variant, form }, &trial.params, &mut bytes).await {
        return vec![error.to_string()];
    }
    let words = bytes.iter().map(|bytes| bytes_to_words(bytes)).collect();
    match trial.unguarded(card, words) {
        Ok(after) => trial.judge(card, Some(variant), &after),
        Err(fault) => vec![fault],
    }
}

fn words_to_bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn bytes_to_words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)).collect()
}
