//! What a run may be told of its parameters: which are frozen, which are not decayed, and by what rule they are updated.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use evenkeel_schedule::Role;
use evenkeel_train::{
    Compute, Executor, Program, Setup, StepRecord, TrainError, Trainer,
    settings::{Settings, Sources},
};

type Outcome = Result<(), Box<dyn Error>>;

const TINY: [&str; 10] = [
    "model.hidden_size=16",
    "model.intermediate_size=24",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=1",
    "model.vocab_size=256",
    "model.max_position_embeddings=8",
    "train.batch_size=2",
    "train.seq_len=8",
    "instruments.interval=1",
];
const LR: f64 = 5e-3;

/// Tensors by name.
type Tensors = BTreeMap<String, Vec<f32>>;

struct Run {
    names: Vec<String>,
    program: Program,
    executor: Executor,
    trainer: Trainer,
}

fn settings(more: &[&str]) -> Result<Settings, TrainError> {
    let set = TINY.iter().chain(more).map(ToString::to_string).collect();
    Settings::resolve(&Sources { set, ..Sources::default() })
}

/// The line that refuses these settings.
fn refusal(more: &[&str]) -> Result<String, Box<dyn Error>> {
    let refused = Setup::new(&settings(more)?, &Compute::Cpu).err();
    Ok(refused.ok_or("expected settings that are refused")?.to_string())
}

impl Run {
    async fn new(more: &[&str], compute: &Compute) -> Result<Self, Box<dyn Error>> {
        let setup = Setup::new(&settings(more)?, compute)?;
        let weights = setup.weights.load(&setup.config)?;
        let executor = setup.program.prepare(compute, &weights, &mut |_, _| ()).await?;
        let trainer = Trainer::new(&setup.program, setup.batches, 1)?;
        let names = setup.config.parameters().into_iter().map(|spec| spec.name).collect();
        Ok(Self { names, program: setup.program, executor, trainer })
    }

    async fn step(&mut self, step: u64) -> Result<StepRecord, Box<dyn Error>> {
        Ok(self.trainer.step(&mut self.executor, step, LR, true).await?)
    }

    /// All parameters, or what is called like them with a suffix, of those that have it.
    async fn read(&mut self, suffix: &str) -> Result<Tensors, Box<dyn Error>> {
        let mut tensors = Tensors::new();
        for name in &self.names {
            if let Ok(id) = self.program.schedule.find(&format!("{name}{suffix}")) {
                tensors.insert(name.clone(), self.executor.read(id).await?);
            }
        }
        Ok(tensors)
    }

    fn bytes(&self, role: Role) -> u64 {
        self.program.schedule.memory().bytes_by_role().get(&role).copied().unwrap_or(0)
    }
}

fn gpu() -> Result<Compute, String> {
    evenkeel_tests::gpu().map(|gpu| Compute::Gpu(Arc::clone(gpu)))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A run with some parameters frozen beside one without: the gradients of all others have the same bits, frozen
/// parameters keep theirs and have nothing beside them.
async fn check_frozen(model: &[&str], freeze: &[&str], compute: &Compute) -> Outcome {
    let list = format!("model.freeze={freeze:?}");
    let with = [model, &[list.as_str()]].concat();
    let (mut whole, mut part) = (Run::new(model, compute).await?, Run::new(&with, compute).await?);
    let before = part.read("").await?;
    let (loss, frozen_loss) = (whole.step(1).await?.loss, part.step(1).await?);
    assert_eq!(loss, frozen_loss.loss, "{freeze:?}: loss");
    let is_frozen = |name: &str| freeze.iter().any(|frozen| name.contains(frozen));
    let (all, rest) = (whole.read(".grad").await?, part.read(".grad").await?);
    for (name, gradient) in &all {
        match rest.get(name) {
            None => assert!(is_frozen(name), "{freeze:?}: {name} has no gradient"),
            Some(got) => {
                assert!(!is_frozen(name), "{freeze:?}: {name} has a gradient");
                assert!(bits(got) == bits(gradient), "{freeze:?}: {name} has another gradient than without freezing");
            }
        }
    }
    let norm = rest.values().flatten().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let relative = (frozen_loss.grad_norm / norm - 1.0).abs();
    assert!(relative < 1e-5, "{freeze:?}: the gradient norm is off by {relative:e}");
    assert_eq!(part.read(".exp_avg").await?.into_keys().collect::<Vec<_>>(), rest.into_keys().collect::<Vec<_>>());

    let measured = frozen_loss.measurement.ok_or("expected a measurement")?.weights;
    assert!(measured.keys().all(|name| !is_frozen(name)), "{freeze:?}: {measured:?}");
    part.step(2).await?;
    for (name, after) in part.read("").await? {
        let same = bits(&after) == bits(&before[&name]);
        assert_eq!(same, is_frozen(&name), "{freeze:?}: {name}: whether it kept its bits");
    }
    Ok(())
}

/// Names that are part of no other name.
const FROZEN: [&[&str]; 6] = [
    &["model.embed_tokens"],
    &["layers.0"],
    &["layers.1.self_attn", "layers.1.input_layernorm"],
    &["k_proj", "v_proj", "model.norm"],
    &["mlp"],
    &["layers", "model.norm"],
];

async fn check_all_frozen(compute: &Compute) -> Outcome {
    for freeze in FROZEN {
        check_frozen(&[], freeze, compute).await?;
    }
    check_frozen(&[], &["lm_head"], compute).await?;
    check_frozen(&["model.tie_word_embeddings=true"], &["model.embed_tokens"], compute).await?;
    let kat = ["model.arch=kat", "model.rational_groups=4"];
    check_frozen(&kat, &["act1.weight_numerator", "act2"], compute).await?;
    check_frozen(&kat, &["fc1", "act1"], compute).await?;
    check_frozen(&["tvr.enabled=true", "tvr.interval=1", "tvr.target_std=1e-3"], &["layers.0"], compute).await?;
    check_frozen(&["optimizer.kind=novograd"], &["layers.0", "model.norm"], compute).await
}

#[test]
fn frozen_parameters_keep_their_bits_and_change_no_gradient_cpu() -> Outcome {
    pollster::block_on(check_all_frozen(&Compute::Cpu))
}

#[test]
fn frozen_parameters_keep_their_bits_and_change_no_gradient_gpu() -> Outcome {
    pollster::block_on(check_all_frozen(&gpu()?))
}

/// All but one parameter frozen, for each of them.
#[test]
fn every_parameter_can_be_trained_alone_cpu() -> Outcome {
    pollster::block_on(async {
        for model in [&["model.arch=llama"][..], &["model.arch=kat", "model.rational_groups=4"]] {
            let names = Run::new(model, &Compute::Cpu).await?.names;
            for alone in &names {
                let freeze: Vec<&str> = names.iter().filter(|name| *name != alone).map(String::as_str).collect();
                check_frozen(model, &freeze, &Compute::Cpu).await?;
            }
        }
        Ok(())
    })
}

#[test]
fn lists_of_names_that_do_not_fit_the_model_are_refused() -> Outcome {
    for (set, parts) in [
        ("model.freeze=['embed']", ["model.freeze: expected parts of the names of parameters", "\"embed\""]),
        ("model.freeze=['model', 'lm_head']", ["model.freeze: expected at least one parameter left", "lm_head"]),
        ("optimizer.no_decay=['norm']", ["optimizer.no_decay: expected parts of the names of matrices", "\"norm\""]),
        ("tvr.exclude=['lm_head']", ["tvr.exclude: expected parts of the names of matrices inside", "\"lm_head\""]),
    ] {
        let message = refusal(&["tvr.enabled=true", set])?;
        assert!(parts.iter().all(|part| message.contains(part)), "{set}: {message}");
    }
    let message = refusal(&["tvr.enabled=true", "model.freeze=['layers']"])?;
    assert!(message.contains("tvr.exclude: expected at least one matrix left to rescale that is trained"), "{message}");
    Ok(())
}

/// One step with decay beside one without: the difference is lr * decay * w, but for what is not decayed.
async fn check_no_decay(kind: &str, compute: &Compute) -> Outcome {
    let no_decay = "optimizer.no_decay=['embed_tokens', 'layers.0.mlp']";
    let run = async |decay: &str| {
        let mut run = Run::new(&[&format!("optimizer.kind={kind}"), no_decay, decay], compute).await?;
        let before = run.read("").await?;
        run.step(1).await?;
        Ok::<_, Box<dyn Error>>((before, run.read("").await?))
    };
    let ((before, with), (_, without)) =
        (run("optimizer.weight_decay=0.5").await?, run("optimizer.weight_decay=0").await?);
    for (name, w) in &before {
        if name.contains("norm") || name.contains("embed_tokens") || name.contains("layers.0.mlp") {
            assert!(bits(&with[name]) == bits(&without[name]), "{kind}: {name} is decayed");
            continue;
        }
        for (i, &w) in w.iter().enumerate() {
            let decayed = f64::from(without[name][i]) - f64::from(with[name][i]);
            // Both are rounded once, to 6e-8 of at most 0.1.
            let error = (decayed - LR * 0.5 * f64::from(w)).abs();
            assert!(error < 2e-8, "{kind}: {name}[{i}]: off by {error:e}");
        }
    }
    Ok(())
}

#[test]
fn what_no_decay_names_is_not_decayed_cpu() -> Outcome {
    pollster::block_on(async {
        check_no_decay("adamw", &Compute::Cpu).await?;
        check_no_decay("novograd", &Compute::Cpu).await
    })
}

#[test]
fn what_no_decay_names_is_not_decayed_gpu() -> Outcome {
    pollster::block_on(async {
        check_no_decay("adamw", &gpu()?).await?;
        check_no_decay("novograd", &gpu()?).await
    })
}

/// Its first step moves every tensor by the learning rate, whatever the size of its gradient: also where clipping has
/// made it a thousandth.
async fn check_first_step(compute: &Compute) -> Outcome {
    for clip in ["optimizer.grad_clip=0", "optimizer.grad_clip=1e-3"] {
        let set = ["optimizer.kind=novograd", "optimizer.weight_decay=0", "optimizer.eps=1e-30", clip];
        let mut run = Run::new(&set, compute).await?;
        let before = run.read("").await?;
        let norm = run.step(1).await?.grad_norm;
        assert!(norm > 0.1, "expected a gradient that is clipped, got a norm of {norm}");
        for (name, after) in run.read("").await? {
            let moved = after.iter().zip(&before[&name]).map(|(after, before)| f64::from(*after) - f64::from(*before));
            let share = moved.map(|x| x * x).sum::<f64>().sqrt() / LR;
            // The 16 weights of a norm are 1 and rounded to 3e-8 each: 1.2e-7 of a step of 5e-3.
            assert!((share - 1.0).abs() < 5e-5, "{clip}: {name}: expected a step of 1 learning rate, got {share}");
        }
    }
    Ok(())
}

#[test]
fn novograd_steps_by_the_learning_rate_at_first_cpu() -> Outcome {
    pollster::block_on(check_first_step(&Compute::Cpu))
}

#[test]
fn novograd_steps_by_the_learning_rate_at_first_gpu() -> Outcome {
    pollster::block_on(check_first_step(&gpu()?))
}

#[test]
fn novograd_remembers_half_of_what_adamw_does() -> Outcome {
    let moments = async |kind: &str| {
        let run = Run::new(&[&format!("optimizer.kind={kind}")], &Compute::Cpu).await?;
        Ok::<_, Box<dyn Error>>((run.bytes(Role::Parameter), run.bytes(Role::Moment), run.names.len() as u64))
    };
    let ((parameters, both, _), (_, first, tensors)) =
        pollster::block_on(async { Ok::<_, Box<dyn Error>>((moments("adamw").await?, moments("novograd").await?)) })?;
    assert_eq!(both, 2 * parameters);
    // Each of two buffers, for what is decayed and what is not, is padded to 256 bytes.
    assert!((parameters + 4 * tensors..=parameters + 4 * tensors + 2 * 256).contains(&first), "{first}");
    Ok(())
}
