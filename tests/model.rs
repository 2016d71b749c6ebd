//! The same models as PyTorch, number by number, on the adapter and on the CPU executor: every gradient, and twenty
//! steps of AdamW or NovoGrad with clipping; micro-batches as one large batch. `generation.rs` has the logits.

use std::sync::Arc;

use evenkeel_data::{Batches, Corpus, Order};
use evenkeel_model::{generation::GenerationShape, transformer::BatchShape};
use evenkeel_schedule::Phase;
use evenkeel_tests::golden::{Golden, largest_difference};
use evenkeel_train::{
    Compute, Executor, Program, ProgramParts, Trainer, TrainingPart,
    learning_rate::learning_rate,
    settings::{Precision, Settings, Sources},
};

/// PyTorch's own f32 lies up to 1e-6 from the golden losses, 1e-6 from the logits, 2e-7 from the gradients. These
/// bounds leave room for another order of summation, and are still far below what a wrong constant causes.
const LOGITS: f64 = 1e-5;
const GRADIENTS: f64 = 3e-6;
const LOSSES: f64 = 1e-5;
const NORMS: f64 = 1e-5;
/// Where a gradient is as small as AdamW's eps, its rounding decides much of an update of the learning rate's size.
const FINAL: f64 = 3e-4;

/// Enough for TVR to have fired.
const ACCUMULATED_STEPS: u64 = 6;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn settings(golden: &Golden) -> Result<Settings, Box<dyn std::error::Error>> {
    let [steps, batch, time] = golden.extents;
    let mut set = vec![
        format!("train.steps={steps}"),
        format!("train.batch_size={batch}"),
        format!("train.seq_len={time}"),
        format!("model.max_position_embeddings={time}"),
        "schedule.kind=cosine".to_owned(),
        format!("optimizer.beta1={}", golden.hyperparameters["betas"][0]),
        format!("optimizer.beta2={}", golden.hyperparameters["betas"][1]),
    ];
    for key in ["lr", "eps", "weight_decay", "grad_clip"] {
        set.push(format!("optimizer.{key}={}", golden.hyperparameters[key]));
    }
    if let Some(kind) = golden.hyperparameters.get("kind").and_then(|kind| kind.as_str()) {
        set.push(format!("optimizer.kind={kind}"));
    }
    if let Some(parts) = golden.hyperparameters.get("no_decay") {
        set.push(format!("optimizer.no_decay={parts}"));
    }
    for key in ["warmup_steps", "min_lr_ratio"] {
        set.push(format!("schedule.{key}={}", golden.hyperparameters[key]));
    }
    if let Some(tvr) = golden.hyperparameters.get("tvr").and_then(|tvr| tvr.as_object()) {
        set.push("tvr.enabled=true".to_owned());
        set.extend(tvr.iter().map(|(key, value)| format!("tvr.{key}={value}")));
    }
    Ok(Settings::resolve(&Sources { set, ..Sources::default() })?)
}

fn batches(golden: &Golden, micro: usize) -> Result<Batches, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("stream.bin");
    golden.write_shard(&path)?;
    let corpus = Corpus::open(&[&path], golden.config.vocab_size)?;
    let [_, batch, time] = golden.extents;
    Ok(Batches::new(corpus, Order::Sequential, 0, batch / micro, time, micro as u32)?)
}

async fn prepare(
    golden: &Golden,
    compute: &Compute,
    settings: &Settings,
    micro: usize,
    binding_limit: u64,
) -> Result<(Program, Executor), Box<dyn std::error::Error>> {
    let [_, batch, time] = golden.extents;
    let parts = ProgramParts {
        training: Some(TrainingPart {
            shape: BatchShape { batch: batch / micro, time },
            accumulation: micro,
            freeze: &[],
            optimizer: &settings.optimizer,
            tvr: &settings.tvr,
            precision: Precision::F32,
            instruments: true,
        }),
        evaluation: None,
        generation: None,
    };
    let program = Program::record(&golden.config, &parts, binding_limit)?;
    let executor = program.prepare(compute, &golden.weights, &mut |_, _| ()).await?;
    Ok((program, executor))
}

async fn check_tensors(
    golden: &Golden,
    program: &Program,
    executor: &mut Executor,
    (prefix, suffix): (&str, &str),
    bound: f64,
) -> Outcome {
    for spec in golden.config.parameters() {
        let got = executor.read(program.schedule.find(&format!("{}{suffix}", spec.name))?).await?;
        let expected = golden.tensor(&format!("{prefix}.{}", spec.name));
        let difference = largest_difference(&got, expected);
        // Of values beyond 1 (gradients of rational coefficients) the bound is relative.
        let bound = expected.iter().fold(1.0, |most, x| f64::max(most, x.abs())) * bound;
        assert!(difference < bound, "{prefix} {}: expected {bound:e}, got {difference:e}", spec.name);
    }
    Ok(())
}

async fn check_training(name: &str, compute: &Compute, binding_limit: u64) -> Outcome {
    let golden = Golden::load(name)?;
    let settings = settings(&golden)?;
    let (program, mut executor) = prepare(&golden, compute, &settings, 1, binding_limit).await?;
    if binding_limit < compute.binding_limit() {
        // As those of a large model: a fourth arena at least.
        program.schedule.find("parameters.3")?;
    }
    let mut trainer = Trainer::new(&program, batches(&golden, 1)?, 1)?;
    for step in 1..=settings.train.steps {
        let lr = learning_rate(&settings.schedule, settings.optimizer.lr, settings.train.steps, step);
        let index = step as usize - 1;
        assert!((lr - golden.tensor("lrs")[index]).abs() < 1e-15, "lr of step {step}: got {lr}");
        let record = trainer.step(&mut executor, step, lr, false).await?;
        let loss = (record.loss - golden.tensor("losses")[index]).abs();
        assert!(loss < LOSSES, "loss of step {step}: expected within {LOSSES:e}, got {loss:e}");
        let norm = (record.grad_norm / golden.tensor("grad_norms")[index] - 1.0).abs();
        assert!(norm < NORMS, "gradient norm of step {step}: expected within {NORMS:e}, got {norm:e}");
        if settings.tvr.enabled {
            let rescaled = golden.tensor("tvr_rescaled")[index];
            assert_eq!(record.tvr_rescaled.unwrap_or(0) as f64, rescaled, "matrices rescaled after step {step}");
        }
        if step == 1 {
            check_tensors(&golden, &program, &mut executor, ("grad", ".grad"), GRADIENTS).await?;
        }
    }
    check_tensors(&golden, &program, &mut executor, ("final", ""), FINAL).await
}

/// The logits of a model that transformers stored, position by position.
async fn check_exchange(name: &str, compute: &Compute) -> Outcome {
    let golden = Golden::load(name)?;
    let [_, sequences, context] = golden.extents;
    let shape = GenerationShape { sequences, context, piece: 1 };
    let parts = ProgramParts { generation: Some(shape), ..ProgramParts::default() };
    let program = Program::record(&golden.config, &parts, compute.binding_limit())?;
    let mut executor = program.prepare(compute, &golden.weights, &mut |_, _| ()).await?;
    let Some(tensors) = &program.generation else { return Err("expected generation".into()) };
    let vocabulary = golden.config.vocab_size;
    for t in 0..context {
        let tokens: Vec<u32> = (0..sequences).map(|b| u32::from(golden.stream[b * context + t])).collect();
        let rows: Vec<[u32; 2]> = (0..sequences).map(|b| [b as u32, t as u32]).collect();
        executor.write(tensors.decode.tokens, &tokens)?;
        executor.write(tensors.decode.rows, &rows)?;
        executor.run(Phase::Decode).await?;
        let got = executor.read(tensors.decode.logits).await?;
        for b in 0..sequences {
            let expected = &golden.tensor("logits")[(b * context + t) * vocabulary..][..vocabulary];
            let difference = largest_difference(&got[b * tensors.logits_stride..][..vocabulary], expected);
            assert!(difference < LOGITS, "row {b}, position {t}: expected {LOGITS:e}, got {difference:e}");
        }
    }
    Ok(())
}

/// Steps of several micro-batches have the gradients and losses of one large batch.
async fn check_accumulation(name: &str, compute: &Compute) -> Outcome {
    let golden = Golden::load(name)?;
    let settings = settings(&golden)?;
    let micro = golden.extents[1];
    let (program, mut executor) = prepare(&golden, compute, &settings, micro, compute.binding_limit()).await?;
    let mut trainer = Trainer::new(&program, batches(&golden, micro)?, micro as u32)?;
    for step in 1..=ACCUMULATED_STEPS {
        let lr = learning_rate(&settings.schedule, settings.optimizer.lr, settings.train.steps, step);
        let record = trainer.step(&mut executor, step, lr, false).await?;
        let loss = (record.loss - golden.tensor("losses")[step as usize - 1]).abs();
        assert!(loss < LOSSES, "loss of step {step}: expected within {LOSSES:e}, got {loss:e}");
        if step == 1 {
            check_tensors(&golden, &program, &mut executor, ("grad", ".grad"), GRADIENTS).await?;
        }
    }
    Ok(())
}

fn gpu() -> Compute {
    match evenkeel_tests::gpu() {
        Ok(gpu) => Compute::Gpu(Arc::clone(gpu)),
        Err(message) => panic!("{message}"),
    }
}

macro_rules! golden {
    ($($model:literal: $on_cpu:ident $on_gpu:ident $accumulated_cpu:ident $accumulated_gpu:ident;)*) => { $(
        #[test]
        fn $on_cpu() -> Outcome {
            pollster::block_on(check_training($model, &Compute::Cpu, Compute::Cpu.binding_limit()))
        }

        #[test]
        fn $on_gpu() -> Outcome {
            let gpu = gpu();
            pollster::block_on(check_training($model, &gpu, gpu.binding_limit()))
        }

        #[test]
        fn $accumulated_cpu() -> Outcome {
            pollster::block_on(check_accumulation($model, &Compute::Cpu))
        }

        #[test]
        fn $accumulated_gpu() -> Outcome {
            pollster::block_on(check_accumulation($model, &gpu()))
        }
    )* };
}

golden! {
    "llama-gqa": gqa_cpu gqa_gpu accumulated_gqa_cpu accumulated_gqa_gpu;
    "llama-tied": tied_cpu tied_gpu accumulated_tied_cpu accumulated_tied_gpu;
    "llama-novograd": novograd_cpu novograd_gpu accumulated_novograd_cpu accumulated_novograd_gpu;
    "llama-tvr": tvr_cpu tvr_gpu accumulated_tvr_cpu accumulated_tvr_gpu;
    "kat-abs-sum": abs_sum_cpu abs_sum_gpu accumulated_abs_sum_cpu accumulated_abs_sum_gpu;
    "kat-sum-abs": sum_abs_cpu sum_abs_gpu accumulated_sum_abs_cpu accumulated_sum_abs_gpu;
    "llama-headdim": headdim_cpu headdim_gpu accumulated_headdim_cpu accumulated_headdim_gpu;
}

/// AdamW, NovoGrad, and TVR, with bindings that hold less than a quarter of the parameters.
const SMALL_BINDINGS: [(&str, u64); 3] =
    [("llama-gqa", 32 << 10), ("llama-novograd", 8 << 10), ("llama-tvr", 16 << 10)];

#[test]
fn parameters_may_lie_in_several_arenas_cpu() -> Outcome {
    SMALL_BINDINGS.iter().try_for_each(|&(name, limit)| pollster::block_on(check_training(name, &Compute::Cpu, limit)))
}

#[test]
fn parameters_may_lie_in_several_arenas_gpu() -> Outcome {
    SMALL_BINDINGS.iter().try_for_each(|&(name, limit)| pollster::block_on(check_training(name, &gpu(), limit)))
}

const EXCHANGED: [&str; 3] = ["exchange-f16", "exchange-tied-bf16", "exchange-sharded"];

#[test]
fn models_that_transformers_stored_have_its_logits_cpu() -> Outcome {
    EXCHANGED.iter().try_for_each(|name| pollster::block_on(check_exchange(name, &Compute::Cpu)))
}

#[test]
fn models_that_transformers_stored_have_its_logits_gpu() -> Outcome {
    EXCHANGED.iter().try_for_each(|name| pollster::block_on(check_exchange(name, &gpu())))
}
