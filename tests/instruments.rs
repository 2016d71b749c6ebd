//! What the instruments and TVR report, against the same numbers computed in f64 from the tensors read back.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use evenkeel_model::ParameterSpec;
use evenkeel_train::{
    Compute, Executor, Measurement, Program, Setup, StepRecord, Trainer,
    settings::{Settings, Sources},
};

type Outcome = Result<(), Box<dyn Error>>;

/// Sums of some thousand f32 values, in two stages: 1e-6 of the value; fourth powers: four times that.
const CLOSE: f64 = 1e-5;

const TINY: [&str; 10] = [
    "model.hidden_size=24",
    "model.intermediate_size=40",
    "model.num_hidden_layers=3",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=1",
    "model.vocab_size=256",
    "model.max_position_embeddings=8",
    "train.batch_size=3",
    "train.seq_len=8",
    "init.scheme=lir",
];

struct Run {
    parameters: Vec<ParameterSpec>,
    program: Program,
    executor: Executor,
    trainer: Trainer,
}

impl Run {
    async fn new(more: &[&str], compute: &Compute) -> Result<Self, Box<dyn Error>> {
        let set = TINY.iter().chain(more).map(ToString::to_string).collect();
        let settings = Settings::resolve(&Sources { set, ..Sources::default() })?;
        let setup = Setup::new(&settings, compute)?;
        let weights = setup.weights.load(&setup.config)?;
        let executor = setup.program.prepare(compute, &weights, &mut |_, _| ()).await?;
        let trainer = Trainer::new(&setup.program, setup.batches, 1)?;
        Ok(Self { parameters: setup.config.parameters(), program: setup.program, executor, trainer })
    }

    async fn read(&mut self, name: &str) -> Result<Vec<f32>, Box<dyn Error>> {
        Ok(self.executor.read(self.program.schedule.find(name)?).await?)
    }

    async fn weights(&mut self) -> Result<BTreeMap<String, Vec<f32>>, Box<dyn Error>> {
        let mut weights = BTreeMap::new();
        for spec in self.parameters.clone() {
            weights.insert(spec.name.clone(), self.read(&spec.name).await?);
        }
        Ok(weights)
    }

    async fn step(&mut self, step: u64, measured: bool) -> Result<StepRecord, Box<dyn Error>> {
        Ok(self.trainer.step(&mut self.executor, step, 5e-3, measured).await?)
    }
}

/// Mean, standard deviation (N - 1), largest magnitude, kurtosis.
fn moments(values: &[f64]) -> [f64; 4] {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let central = |power| values.iter().map(|x| (x - mean).powi(power)).sum::<f64>();
    let absmax = values.iter().fold(0.0, |most, x| f64::max(most, x.abs()));
    [mean, (central(2) / (n - 1.0)).sqrt(), absmax, central(4) / n / (central(2) / n).powi(2)]
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

fn assert_close(what: &str, got: f64, expected: f64, scale: f64) {
    assert!((got - expected).abs() <= CLOSE * scale, "{what}: expected {expected}, got {got}");
}

fn check_weights(
    measurement: &Measurement,
    specs: &[ParameterSpec],
    before: &BTreeMap<String, Vec<f32>>,
    after: &BTreeMap<String, Vec<f32>>,
) {
    let matrices: Vec<_> = specs.iter().filter(|spec| spec.is_matrix()).collect();
    assert_eq!(measurement.weights.len(), matrices.len());
    for spec in matrices {
        let got = measurement.weights[&spec.name];
        let w: Vec<f64> = after[&spec.name].iter().map(|&x| x.into()).collect();
        let [mean, std, absmax, _] = moments(&w);
        assert_close(&format!("{} mean", spec.name), got.mean, mean, std);
        assert_close(&format!("{} std", spec.name), got.std, std, std);
        assert_eq!(got.absmax, absmax, "{} absmax", spec.name);
        let update = before[&spec.name].iter().zip(&w).map(|(&before, after)| after - f64::from(before));
        let ratio = norm(update) / norm(w.iter().copied());
        // The copy's difference from the weights is rounded to f32 where it is far smaller than they are.
        assert_close(&format!("{} update_ratio", spec.name), got.update_ratio, ratio, ratio);
        assert!(ratio > 1e-3, "{}: expected an update to see, got {ratio}", spec.name);
    }
}

async fn check_instruments(compute: &Compute) -> Outcome {
    let mut run = Run::new(&[], compute).await?;
    run.step(1, false).await?;
    let before = run.weights().await?;
    let record = run.step(2, true).await?;
    let after = run.weights().await?;
    let measurement = record.measurement.ok_or("expected a measurement")?;
    check_weights(&measurement, &run.parameters, &before, &after);

    // Entry 0 of the streams is the embedding of the batch.
    assert_eq!(measurement.residual_stream.len(), 4);
    let ids = run.program.training.as_ref().ok_or("expected training")?.tensors.tokens.ids;
    let ids: Vec<usize> = run.executor.read(ids).await?.iter().map(|id| id.to_bits() as usize).collect();
    let embedding = &after["model.embed_tokens.weight"];
    let stream: Vec<f64> =
        ids.iter().flat_map(|id| &embedding[id * 24..(id + 1) * 24]).map(|&x| f64::from(x)).collect();
    let [_, _, absmax, kurtosis] = moments(&stream);
    let mut magnitudes: Vec<f64> = stream.iter().map(|x| x.abs()).collect();
    magnitudes.sort_by(f64::total_cmp);
    let middle = magnitudes.len() / 2;
    let got = measurement.residual_stream[0];
    assert_eq!(got.absmax, absmax);
    assert_close("median", got.median, (magnitudes[middle - 1] + magnitudes[middle]) / 2.0, got.median);
    assert_close("kurtosis", got.kurtosis, kurtosis, kurtosis);
    Ok(())
}

/// One run is measured at every step, the other never: the same weights, bit for bit.
async fn check_undisturbed(compute: &Compute) -> Outcome {
    let (mut seen, mut unseen) = (Run::new(&[], compute).await?, Run::new(&["instruments.interval=0"], compute).await?);
    for step in 1..=3 {
        assert!(seen.step(step, true).await?.measurement.is_some());
        assert!(unseen.step(step, true).await?.measurement.is_none());
    }
    assert!(seen.weights().await? == unseen.weights().await?, "the instruments changed the weights");
    Ok(())
}

async fn check_tvr(compute: &Compute) -> Outcome {
    // LIR from .02: the layers start at .02, .014 and .0115; with 1.2 * .012 the first layer is above, the last below.
    let settings = ["tvr.enabled=true", "tvr.interval=2", "tvr.target_std=0.012", "tvr.exclude=['k_proj']"];
    let mut run = Run::new(&settings, compute).await?;
    let mut plain = Run::new(&[], compute).await?;
    let untouched = |name: &str| !name.contains("_proj") || name.contains("k_proj");
    for step in 1..=3 {
        let record = run.step(step, false).await?;
        plain.step(step, false).await?;
        assert_eq!(record.tvr_rescaled.is_some(), step == 3, "step {step}");
        if step < 3 {
            assert!(run.weights().await? == plain.weights().await?, "step {step}");
            continue;
        }
        let mut rescaled = 0;
        for (name, before) in plain.weights().await? {
            let after = run.read(&name).await?;
            let w: Vec<f64> = before.iter().map(|&x| x.into()).collect();
            let [mean, std, ..] = moments(&w);
            if untouched(&name) || std / 0.012 <= 1.2 {
                assert!(after == before, "{name}: expected the same bits");
                continue;
            }
            rescaled += 1;
            let w: Vec<f64> = after.iter().map(|&x| x.into()).collect();
            let [new_mean, new_std, ..] = moments(&w);
            assert!((new_std / 0.012 - 1.0).abs() < 1e-5, "{name}: std {new_std}");
            assert!((new_mean - mean).abs() < 1e-7, "{name}: mean {new_mean} from {mean}");
            let mut order: Vec<usize> = (0..w.len()).collect();
            order.sort_by(|&i, &j| before[i].total_cmp(&before[j]));
            assert!(order.windows(2).all(|pair| w[pair[0]] <= w[pair[1]]), "{name}: the order changed");
        }
        assert_eq!(record.tvr_rescaled, Some(rescaled));
        assert!((1..18).contains(&rescaled), "expected some matrices above and some below, got {rescaled} above");
    }
    Ok(())
}

fn gpu() -> Result<Compute, String> {
    evenkeel_tests::gpu().map(|gpu| Compute::Gpu(Arc::clone(gpu)))
}

macro_rules! on_both {
    ($($check:ident: $on_cpu:ident $on_gpu:ident;)*) => { $(
        #[test]
        fn $on_cpu() -> Outcome {
            pollster::block_on($check(&Compute::Cpu))
        }

        #[test]
        fn $on_gpu() -> Outcome {
            pollster::block_on($check(&gpu()?))
        }
    )* };
}

on_both! {
    check_instruments: statistics_are_those_of_the_tensors_cpu statistics_are_those_of_the_tensors_gpu;
    check_undisturbed: instruments_change_no_bit_cpu instruments_change_no_bit_gpu;
    check_tvr: tvr_rescales_what_is_above_its_threshold_cpu tvr_rescales_what_is_above_its_threshold_gpu;
}
