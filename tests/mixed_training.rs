//! Training in mixed precision: beside PyTorch's f32 and our own, its loss scale, its bits, its memory.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, error::Error, sync::Arc};

use evenkeel_data::{Batches, Corpus, Order};
use evenkeel_gpu::Gpu;
use evenkeel_model::transformer::BatchShape;
use evenkeel_schedule::Role;
use evenkeel_shaders::MOST_HALF_HEAD;
use evenkeel_tests::golden::Golden;
use evenkeel_train::{
    Compute, Executor, Program, ProgramParts, Setup, StepRecord, Trainer, TrainingPart,
    difference::compare,
    learning_rate::learning_rate,
    settings::{Precision, Settings, Sources},
};

type Outcome = Result<(), Box<dyn Error>>;

const TINY: [&str; 13] = [
    "model.hidden_size=32",
    "model.intermediate_size=64",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=4",
    "model.num_key_value_heads=2",
    "model.vocab_size=256",
    "model.max_position_embeddings=16",
    "train.batch_size=4",
    "train.seq_len=16",
    "train.steps=30",
    "optimizer.lr=3e-3",
    "schedule.kind=constant",
    "instruments.interval=0",
];
const KAT: [&str; 2] = ["model.arch=kat", "model.rational_groups=4"];

/// Of a mean loss, relative. Rounding a number to f16 changes it by 2^-11 at most; a logit is made of numbers that were
/// rounded a dozen times, each with a sign of its own, and a loss is the mean over all tokens of what its logits change.
/// On llama-tied torch's own autocast to f16 lies up to 7e-5 from f64, and that to bfloat16, which is too coarse, 4e-4.
const LOSSES: f64 = 1.0 / 4096.0;
/// Of a gradient norm, relative: gradients are rounded from layer to layer, 2^-11 each time.
const NORMS: f64 = 1.0 / 256.0;

fn settings(more: &[&str]) -> Result<Settings, Box<dyn Error>> {
    let set = TINY.iter().chain(more).map(ToString::to_string).collect();
    Ok(Settings::resolve(&Sources { set, ..Sources::default() })?)
}

/// Native f16 where the adapter has it, else packed.
fn gpu() -> Compute {
    Compute::Gpu(Arc::clone(evenkeel_tests::gpu().unwrap()))
}

/// The same device, as if its shaders had no f16.
fn packed() -> Compute {
    let gpu = evenkeel_tests::gpu().unwrap();
    Compute::Gpu(Arc::new(Gpu::from_host(gpu.device().clone(), gpu.queue().clone()).with_packed_halves()))
}

/// A run in memory.
struct Run {
    settings: Settings,
    program: Program,
    executor: Executor,
    trainer: Trainer,
    step: u64,
}

impl Run {
    async fn new(compute: &Compute, more: &[&str]) -> Result<Self, Box<dyn Error>> {
        let settings = settings(more)?;
        let setup = Setup::new(&settings, compute)?;
        let weights = setup.weights.load(&setup.config)?;
        let executor = setup.program.prepare(compute, &weights, &mut |_, _| ()).await?;
        let trainer = Trainer::new(&setup.program, setup.batches, settings.train.grad_accumulation as u32)?;
        Ok(Self { settings, program: setup.program, executor, trainer, step: 0 })
    }

    async fn next(&mut self) -> Result<StepRecord, Box<dyn Error>> {
        self.step += 1;
        let Settings { schedule, optimizer, train, .. } = &self.settings;
        let lr = learning_rate(schedule, optimizer.lr, train.steps, self.step);
        Ok(self.trainer.step(&mut self.executor, self.step, lr, false).await?)
    }

    async fn bits(&mut self) -> Result<Vec<u32>, Box<dyn Error>> {
        let mut bits = Vec::new();
        for parameter in self.program.parameters()? {
            bits.extend(self.executor.read(parameter).await?.into_iter().map(f32::to_bits));
        }
        Ok(bits)
    }

    /// What is called like the parameters with a suffix, of those that have it.
    async fn tensors(&mut self, suffix: &str) -> Result<BTreeMap<String, Vec<f32>>, Box<dyn Error>> {
        let mut tensors = BTreeMap::new();
        for spec in self.program.config.parameters() {
            if let Ok(tensor) = self.program.schedule.find(&format!("{}{suffix}", spec.name)) {
                tensors.insert(spec.name, self.executor.read(tensor).await?);
            }
        }
        Ok(tensors)
    }

    fn set_loss_scale(&mut self, scale: f32, good: f32) -> Outcome {
        Ok(self.executor.write(self.trainer.update().loss_scale.tensor, &[scale, good])?)
    }
}

fn near(step: u64, got: f64, expected: f64) {
    let difference = (got / expected - 1.0).abs();
    assert!(difference < LOSSES, "loss of step {step}: expected {expected} within {LOSSES:e}, got {got}");
}

/// Twenty steps beside PyTorch's in f64.
async fn beside_pytorch(compute: &Compute) -> Outcome {
    let golden = Golden::load("llama-tied")?;
    let [steps, batch, time] = golden.extents;
    let mut set = vec![format!("train.steps={steps}"), "schedule.kind=cosine".to_owned()];
    for (i, beta) in ["beta1", "beta2"].into_iter().enumerate() {
        set.push(format!("optimizer.{beta}={}", golden.hyperparameters["betas"][i]));
    }
    for key in ["lr", "eps", "weight_decay", "grad_clip"] {
        set.push(format!("optimizer.{key}={}", golden.hyperparameters[key]));
    }
    for key in ["warmup_steps", "min_lr_ratio"] {
        set.push(format!("schedule.{key}={}", golden.hyperparameters[key]));
    }
    let settings = Settings::resolve(&Sources { set, ..Sources::default() })?;
    let folder = tempfile::tempdir()?;
    let shard = folder.path().join("stream.bin");
    golden.write_shard(&shard)?;
    let corpus = Corpus::open(&[&shard], golden.config.vocab_size)?;
    let batches = Batches::new(corpus, Order::Sequential, 0, batch, time, 1)?;
    let training = TrainingPart {
        shape: BatchShape { batch, time },
        freeze: &[],
        accumulation: 1,
        optimizer: &settings.optimizer,
        tvr: &settings.tvr,
        precision: Precision::Mixed,
        instruments: false,
    };
    let parts = ProgramParts { training: Some(training), ..ProgramParts::default() };
    let program = Program::record(&golden.config, &parts, compute.binding_limit())?;
    let mut executor = program.prepare(compute, &golden.weights, &mut |_, _| ()).await?;
    let mut trainer = Trainer::new(&program, batches, 1)?;
    let mut same = 0;
    for step in 1..=settings.train.steps {
        let lr = learning_rate(&settings.schedule, settings.optimizer.lr, settings.train.steps, step);
        let record = trainer.step(&mut executor, step, lr, false).await?;
        assert!(record.applied, "step {step}: expected an applied update");
        let expected = golden.tensor("losses")[step as usize - 1];
        near(step, record.loss, expected);
        same += u64::from((record.loss / expected - 1.0).abs() < 1e-7);
    }
    assert!(same < settings.train.steps / 2, "expected losses of half precision, got those of f32");
    Ok(())
}

#[test]
fn a_llama_beside_pytorch_cpu() -> Outcome {
    pollster::block_on(beside_pytorch(&Compute::Cpu))
}

#[test]
fn a_llama_beside_pytorch_gpu() -> Outcome {
    pollster::block_on(beside_pytorch(&gpu()))
}

#[test]
fn a_llama_beside_pytorch_packed_gpu() -> Outcome {
    pollster::block_on(beside_pytorch(&packed()))
}

/// Steps beside our own in f32, which are PyTorch's.
async fn beside_f32(compute: &Compute, steps: u64, more: &[&str]) -> Result<[Run; 2], Box<dyn Error>> {
    let mut whole = Run::new(compute, more).await?;
    let mut mixed = Run::new(compute, &[more, &["train.precision=mixed"]].concat()).await?;
    let mut same = 0;
    for step in 1..=steps {
        let (expected, got) = (whole.next().await?, mixed.next().await?);
        near(step, got.loss, expected.loss);
        assert!(got.applied, "step {step}: {got:?}");
        same += u64::from(got.loss == expected.loss);
    }
    assert!(same < steps / 2, "expected losses of half precision, got those of f32");
    Ok([whole, mixed])
}

#[test]
fn a_kat_beside_f32_cpu() -> Outcome {
    pollster::block_on(beside_f32(&Compute::Cpu, 30, &KAT)).map(drop)
}

#[test]
fn a_kat_beside_f32_gpu() -> Outcome {
    pollster::block_on(beside_f32(&gpu(), 30, &KAT)).map(drop)
}

/// NovoGrad divides the gradient of every tensor by its norm, and so hides a loss scale that is left in it: but not in what
/// it remembers of that norm. What is frozen keeps its bits, and the layers read copies of it all the same.
async fn novograd_beside_f32(compute: &Compute) -> Outcome {
    const FROZEN: [&str; 2] = ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"];
    let freeze = format!("model.freeze={FROZEN:?}");
    let more = ["optimizer.kind=novograd", "optimizer.grad_clip=0.5", "train.grad_accumulation=2", &freeze];
    let before = Run::new(compute, &more).await?.tensors("").await?;
    let [mut whole, mut mixed] = beside_f32(compute, 30, &more).await?;
    let after = mixed.tensors("").await?;
    for (name, values) in &before {
        assert_eq!(after[name] == *values, FROZEN.contains(&name.as_str()), "{name}: whether it kept its bits");
    }
    for (suffix, bound) in [(".exp_avg_sq", 2.0 * NORMS), (".exp_avg", NORMS)] {
        let (expected, got) = (whole.tensors(suffix).await?, mixed.tensors(suffix).await?);
        assert!(expected.len() == before.len() - FROZEN.len() && got.len() == expected.len());
        for (name, values) in &expected {
            let norm = |values: &[f32]| values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let difference = (norm(&got[name]) / norm(values) - 1.0).abs();
            assert!(difference < bound, "{name}{suffix}: off by {difference:e}, bound {bound:e}");
        }
    }
    Ok(())
}

#[test]
fn novograd_with_frozen_parts_beside_f32_cpu() -> Outcome {
    pollster::block_on(novograd_beside_f32(&Compute::Cpu))
}

#[test]
fn novograd_with_frozen_parts_beside_f32_gpu() -> Outcome {
    pollster::block_on(novograd_beside_f32(&gpu()))
}

/// Ten steps: so wide for so small a model they soon amplify every difference.
async fn largest_heads(compute: &Compute) -> Outcome {
    beside_f32(compute, 10, &[&format!("model.head_dim={MOST_HALF_HEAD}")]).await.map(drop)
}

#[test]
fn the_largest_heads_of_half_precision_beside_f32_cpu() -> Outcome {
    pollster::block_on(largest_heads(&Compute::Cpu))
}

#[test]
fn the_largest_heads_of_half_precision_beside_f32_gpu() -> Outcome {
    pollster::block_on(largest_heads(&gpu()))
}

/// A scale that overflows half precision halves with every step, which leaves the weights alone, until it does not.
async fn scale_finds_its_size(compute: &Compute) -> Outcome {
    let mut run = Run::new(compute, &["train.precision=mixed"]).await?;
    let before = run.bits().await?;
    let absurd = 2.0_f64.powi(34);
    run.set_loss_scale(absurd as f32, 7.0)?;
    let mut record = run.next().await?;
    let mut skipped = 0;
    while !record.applied {
        assert!(record.only_scaled_too_far() && run.bits().await? == before, "step {}: {record:?}", run.step);
        assert_eq!(record.loss_scale, Some(absurd / 2.0_f64.powi(skipped)));
        assert_eq!(record.applied_steps, 0);
        skipped += 1;
        record = run.next().await?;
    }
    assert!((5..20).contains(&skipped), "expected a few skipped steps, got {skipped}");
    assert_eq!(record.applied_steps, 1);
    assert!(run.bits().await? != before && record.grad_norm.is_finite(), "{record:?}");
    // The norm is that of gradients without the scale: of weights that nothing has changed yet.
    let mut whole = Run::new(compute, &["optimizer.lr=0"]).await?;
    whole.set_loss_scale(1.0, 1999.0)?;
    let mut expected = whole.next().await?;
    for _ in 0..skipped {
        expected = whole.next().await?;
    }
    let difference = (record.grad_norm / expected.grad_norm - 1.0).abs();
    assert!(difference < NORMS, "norm: expected {} within {NORMS}, got {}", expected.grad_norm, record.grad_norm);
    let fixed = whole.executor.read(whole.trainer.update().loss_scale.tensor).await?;
    assert_eq!((fixed, expected.loss_scale), (vec![1.0, 1999.0], None), "in f32 nothing is scaled, and stays so");
    let scale = record.loss_scale.unwrap();
    run.set_loss_scale(scale as f32, 1998.0)?;
    assert_eq!(run.next().await?.loss_scale, Some(scale));
    assert_eq!(run.next().await?.loss_scale, Some(scale));
    assert_eq!(run.next().await?.loss_scale, Some(2.0 * scale));
    Ok(())
}

#[test]
fn the_loss_scale_falls_and_grows_cpu() -> Outcome {
    pollster::block_on(scale_finds_its_size(&Compute::Cpu))
}

#[test]
fn the_loss_scale_falls_and_grows_gpu() -> Outcome {
    pollster::block_on(scale_finds_its_size(&gpu()))
}

/// The scale is a power of two: where nothing over- or underflows, it does not show in a single bit of the weights.
#[test]
fn the_loss_scale_does_not_show_cpu() -> Outcome {
    let bits = |scale: f32| {
        pollster::block_on(async {
            let mut run = Run::new(&Compute::Cpu, &["train.precision=mixed"]).await?;
            run.set_loss_scale(scale, 0.0)?;
            run.next().await?;
            run.bits().await
        })
    };
    let (expected, got) = (bits(4096.0)?, bits(8192.0)?);
    let differing = expected.iter().zip(&got).filter(|(a, b)| a != b).count();
    assert!(differing < expected.len() / 100, "expected the same bits, got {differing} others of {}", got.len());
    Ok(())
}

/// Native and packed half precision round alike, so they give the same bits, as does a second run.
#[test]
fn both_forms_and_a_second_run_give_the_same_bits_gpu() -> Outcome {
    let bits = |compute: &Compute| {
        pollster::block_on(async {
            let mut run = Run::new(compute, &["train.precision=mixed"]).await?;
            for _ in 0..3 {
                run.next().await?;
            }
            run.bits().await
        })
    };
    let first = bits(&gpu())?;
    assert!(bits(&gpu())? == first, "two runs differ");
    assert!(bits(&packed())? == first, "native and packed halves differ");
    Ok(())
}

#[test]
fn every_kernel_of_a_mixed_step_agrees_with_the_cpu_executor_gpu() -> Outcome {
    let heads = format!("model.head_dim={MOST_HALF_HEAD}");
    let tied = ["model.tie_word_embeddings=true", "train.grad_accumulation=2"];
    let novograd = ["optimizer.kind=novograd", "model.freeze=['layers.0.self_attn']", heads.as_str()];
    for more in [&KAT[..], &tied, &novograd] {
        for compute in [gpu(), packed()] {
            let settings = settings(&[more, &["train.precision=mixed"]].concat())?;
            let report = pollster::block_on(compare(&settings, &compute))?;
            assert!(report.first.is_none(), "{report}");
        }
    }
    Ok(())
}

/// What lives in half precision takes half the bytes; the copies of the weights are what that costs.
#[test]
fn a_mixed_run_needs_less_memory_for_activations() -> Outcome {
    let planned = |precision: &str| -> Result<_, Box<dyn Error>> {
        let set = vec!["model.preset=s".to_owned(), format!("train.precision={precision}")];
        let settings = Settings::resolve(&Sources { set, ..Sources::default() })?;
        let bytes = Setup::new(&settings, &Compute::Cpu)?.plan(&settings).bytes;
        Ok(move |wanted| bytes.iter().find(|(role, _)| *role == wanted).map_or(0, |(_, bytes)| *bytes))
    };
    let (whole, mixed) = (planned("f32")?, planned("mixed")?);
    let [before, after] = [whole(Role::Activation), mixed(Role::Activation)];
    assert!(5 * after < 4 * before, "activations: expected less than 4/5 of {before} bytes, got {after}");
    assert_eq!(whole(Role::Copy), 0);
    assert!(2 * mixed(Role::Copy) <= mixed(Role::Parameter), "copies: {}", mixed(Role::Copy));
    Ok(())
}

#[test]
fn extents_that_half_precision_has_no_kernels_for_are_named() -> Outcome {
    for (more, name, got) in [
        (&["model.intermediate_size=66"][..], "intermediate_size", "66"),
        (&["model.head_dim=12"], "head_dim", "12"),
        (&["model.head_dim=136"], "head_dim", "136"),
        (
            &["model.hidden_size=48", "model.head_dim=8", "model.arch=kat", "model.rational_groups=8"],
            "hidden_size",
            "48",
        ),
    ] {
        let settings = settings(&[more, &["train.precision=mixed"]].concat())?;
        let error = Setup::new(&settings, &Compute::Cpu).err().ok_or("expected an error")?.to_string();
        let named = [name, got, "train.precision", "mixed"].iter().all(|part| error.contains(part));
        assert!(named && !error.contains('\n'), "{error}");
    }
    Ok(())
}
