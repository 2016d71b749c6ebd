//! The schedule as a whole: its printed form, its memory over a long run, its bits, and what the recorder refuses.

use std::{collections::HashMap, error::Error, fs, path::Path, sync::Arc};

use evenkeel_model::{ModelConfig, transformer::BatchShape};
use evenkeel_schedule::{
    DType, Dim, Operand::GradientTo, ParameterDecl, Params, Phase, Recorder, Role, Schedule, Table, TensorId,
};
use evenkeel_shaders::{Device, accumulate, add};
use evenkeel_train::{
    Compute, Executor, Program, ProgramParts, Setup, Trainer, TrainingPart,
    settings::{Settings, Sources},
};

type Outcome = Result<(), Box<dyn Error>>;

const TINY: [&str; 9] = [
    "model.hidden_size=16",
    "model.intermediate_size=24",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=1",
    "model.vocab_size=256",
    "model.max_position_embeddings=8",
    "train.batch_size=2",
    "train.seq_len=8",
];

fn setup(more: &[&str], compute: &Compute) -> Result<(Settings, Setup), Box<dyn Error>> {
    let set = TINY.iter().chain(more).map(ToString::to_string).collect();
    let settings = Settings::resolve(&Sources { set, ..Sources::default() })?;
    let setup = Setup::new(&settings, compute)?;
    Ok((settings, setup))
}

fn gpu() -> Result<Compute, String> {
    evenkeel_tests::gpu().map(|gpu| Compute::Gpu(Arc::clone(gpu)))
}

/// A refactoring leaves the schedule of a tiny model untouched. `EVENKEEL_BLESS=1` writes the file anew.
fn assert_snapshot(name: &str, text: &str) -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots").join(name);
    if std::env::var_os("EVENKEEL_BLESS").is_some() {
        fs::write(&path, text)?;
    }
    let expected = fs::read_to_string(&path)?;
    let differs = expected.lines().zip(text.lines()).enumerate().find(|(_, (old, new))| old != new);
    if let Some((line, (old, new))) = differs {
        panic!("{name}, line {}:\nexpected {old}\ngot      {new}\nEVENKEEL_BLESS=1 accepts the new schedule", line + 1);
    }
    assert_eq!(expected.lines().count(), text.lines().count(), "{name}: number of lines");
    Ok(())
}

#[test]
fn tiny_llama_is_recorded_as_before() -> Outcome {
    let (_, setup) = setup(&[], &Compute::Cpu)?;
    assert_snapshot("llama.txt", &Table { schedule: &setup.program.schedule, device: Device::PORTABLE }.to_string())
}

#[test]
fn tied_llama_with_accumulation_is_recorded_as_before() -> Outcome {
    let (_, setup) = setup(&["model.tie_word_embeddings=true", "train.grad_accumulation=2"], &Compute::Cpu)?;
    let table = Table { schedule: &setup.program.schedule, device: Device::PORTABLE };
    assert_snapshot("llama_tied_accumulated.txt", &table.to_string())
}

#[test]
fn tiny_kat_with_tvr_is_recorded_as_before() -> Outcome {
    let (_, setup) = setup(&["model.arch=kat", "model.rational_groups=4", "tvr.enabled=true"], &Compute::Cpu)?;
    let table = Table { schedule: &setup.program.schedule, device: Device::PORTABLE };
    assert_snapshot("kat_tvr.txt", &table.to_string())
}

/// With the copies of the weights in half precision, and the loss scale.
#[test]
fn tiny_llama_in_mixed_precision_is_recorded_as_before() -> Outcome {
    let (_, setup) = setup(&["train.precision=mixed"], &Compute::Cpu)?;
    let table = Table { schedule: &setup.program.schedule, device: Device::PORTABLE };
    assert_snapshot("llama_mixed.txt", &table.to_string())
}

/// The first and last step that touches each activation, found without the planner.
fn lives(schedule: &Schedule) -> HashMap<TensorId, (usize, usize)> {
    let mut lives = HashMap::new();
    for (i, step) in schedule.steps().iter().enumerate() {
        for view in step.views.iter().filter(|view| !schedule.tensor(view.tensor).role.persistent()) {
            lives.entry(view.tensor).or_insert((i, i)).1 = i;
        }
    }
    lives
}

/// Beside what must be there at the same time, a plan wastes at most 15 %; and what shares a buffer never meets.
#[test]
fn presets_take_little_more_memory_than_is_alive_cpu() -> Outcome {
    for preset in ["nano", "s", "m", "l"] {
        for arch in ["llama", "kat"] {
            let set = vec![format!("model.preset={preset}"), format!("model.arch={arch}")];
            let settings = Settings::resolve(&Sources { set, ..Sources::default() })?;
            let schedule = Setup::new(&settings, &Compute::Cpu)?.program.schedule;
            let lives = lives(&schedule);
            let bytes = |id: TensorId| schedule.tensor(id).bytes().next_multiple_of(256) as u64;
            let alive = |at: usize| lives.iter().filter(move |(_, life)| (life.0..=life.1).contains(&at));
            let most = (0..schedule.steps().len()).map(|at| alive(at).map(|(&id, _)| bytes(id)).sum::<u64>()).max();
            let memory = schedule.memory();
            let shared = |role: &Role| !role.persistent();
            let planned: u64 = memory.bytes_by_role().iter().filter(|(role, _)| shared(role)).map(|(_, b)| b).sum();
            let most = most.ok_or("no steps")?;
            assert!(planned as f64 <= 1.15 * most as f64, "{preset} {arch}: {planned} bytes for {most}");
            assert_eq!(memory.total_bytes() - planned + most, memory.live_peak_bytes(), "{preset} {arch}");
            let mut tenants: Vec<_> = lives.iter().map(|(&id, &life)| (memory.buffer_of(id), life)).collect();
            tenants.sort_unstable();
            for pair in tenants.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
                assert!(pair[0].1.1 < pair[1].1.0, "{preset} {arch}: {pair:?} meet in one buffer");
            }
        }
    }
    Ok(())
}

/// Every preset is recorded, and its memory planned, for bindings of the 128 MiB that every adapter has and for the
/// 2 GiB of a large one. The fc1 of a KAT is wider than the others' MLP: preset l takes half the batch at 128 MiB.
#[test]
fn presets_are_planned_within_the_smallest_and_the_largest_bindings() -> Outcome {
    for (binding_limit, kat_l) in [(128 << 20, 8), (1 << 31, 16)] {
        for (preset, arch, batch) in [("m", "llama", 8), ("m", "kat", 8), ("l", "llama", 16), ("l", "kat", kat_l)] {
            let what = format!("{preset} {arch}, bindings of {binding_limit}");
            let set = vec![format!("model.preset={preset}"), format!("model.arch={arch}")];
            let settings = Settings::resolve(&Sources { set, ..Sources::default() })?;
            let config = ModelConfig::from_value(&settings.model_config_json().unwrap_or_default())?;
            let record = |batch| {
                let training = TrainingPart {
                    shape: BatchShape { batch, time: settings.train.seq_len },
                    freeze: &[],
                    accumulation: 1,
                    optimizer: &settings.optimizer,
                    tvr: &settings.tvr,
                    precision: settings.train.precision,
                    instruments: true,
                };
                let parts = ProgramParts { training: Some(training), evaluation: None, generation: None };
                Program::record(&config, &parts, binding_limit)
            };
            let schedule = record(batch).map_err(|error| format!("{what}: {error}"))?.schedule;
            let largest = schedule.memory().buffers().iter().map(|buffer| buffer.bytes).max();
            assert!(largest.is_some_and(|bytes| bytes <= binding_limit), "{what}: {largest:?}");
            if batch < settings.train.batch_size {
                assert!(record(settings.train.batch_size).is_err(), "{what}: fits with the preset's batch");
            }
        }
    }
    Ok(())
}

async fn train(
    compute: &Compute,
    steps: u64,
    mut watch: impl FnMut(u64, &Executor),
) -> Result<Vec<u32>, Box<dyn Error>> {
    let (_, setup) = setup(&[], compute)?;
    let weights = setup.weights.load(&setup.config)?;
    let mut executor = setup.program.prepare(compute, &weights, &mut |_, _| ()).await?;
    let mut trainer = Trainer::new(&setup.program, setup.batches, 1)?;
    trainer.begin(1, 1e-3, false);
    for step in 1..=steps {
        // The first step ends alone, and the last.
        if step > 1 && step < steps {
            trainer.begin(step + 1, 1e-3, false);
        }
        trainer.record(&mut executor).await?;
        watch(step, &executor);
        if step == 1 && steps > 1 {
            trainer.begin(2, 1e-3, false);
        }
    }
    let mut bits = Vec::new();
    for parameter in setup.program.parameters()? {
        bits.extend(executor.read(parameter).await?.into_iter().map(f32::to_bits));
    }
    Ok(bits)
}

/// After the first step nothing more is ever taken from the driver; when the device is idle it holds as many buffers and
/// bytes as then, and in between only what carries the batches of two steps.
#[test]
fn memory_is_constant_over_two_hundred_steps_gpu() -> Outcome {
    // A device of its own: other tests allocate at the same time.
    let wanted = std::env::var("EVENKEEL_ADAPTER").ok();
    let gpu = pollster::block_on(async { evenkeel_gpu::select(wanted.as_deref()).await?.open().await })?;
    let compute = Compute::Gpu(Arc::new(gpu));
    let mut after_first = None;
    let watch = |step: u64, executor: &Executor| {
        let Executor::Gpu(gpu) = executor else { panic!("expected the GPU executor") };
        let report = gpu.gpu().allocator_report();
        assert!(report.is_some(), "expected an allocator report");
        if step == 1 {
            after_first = report;
        }
        assert_eq!(report.map(|r| r.reserved_bytes), after_first.map(|r| r.reserved_bytes), "step {step}");
        if step == 200 {
            assert_eq!(report, after_first);
        }
        // Step state, tokens, targets, rows by token and their starts, of this step and of the one begun ahead.
        let [now, then] = [report, after_first].map(|report| report.map_or(0, |r| r.allocations));
        let more = now.saturating_sub(then);
        assert!(more <= 10, "step {step}: expected at most 10 buffers more than after the first step, got {more}");
    };
    pollster::block_on(train(&compute, 200, watch))?;
    Ok(())
}

#[test]
fn twice_the_same_run_gives_the_same_bits_gpu() -> Outcome {
    let run = || pollster::block_on(async { train(&gpu()?, 5, |_, _| ()).await });
    assert!(run()? == run()?, "two runs differ");
    Ok(())
}

#[test]
fn twice_the_same_run_gives_the_same_bits_cpu() -> Outcome {
    let run = || pollster::block_on(train(&Compute::Cpu, 5, |_, _| ()));
    assert!(run()? == run()?, "two runs differ");
    Ok(())
}

const N: usize = 64;

fn recorder_with(parameters: &[&str]) -> Result<Recorder, Box<dyn Error>> {
    let mut r = Recorder::new(1 << 20, false);
    let shape = vec![Dim { name: "N", extent: N }];
    let decl =
        |name: &&str| ParameterDecl { name: (*name).to_owned(), shape: shape.clone(), decayed: true, trainable: true };
    r.parameters(&parameters.iter().map(decl).collect::<Vec<_>>())?;
    r.begin_phase(Phase::ForwardBackward)?;
    Ok(r)
}

#[test]
fn a_parameter_that_the_loss_does_not_reach_is_named() -> Outcome {
    let mut r = recorder_with(&["used", "forgotten"])?;
    let used = r.find("used")?;
    r.gradient_target(used)?;
    r.backward()?;
    let message = r.finish().err().ok_or("expected an error")?.to_string();
    assert!(message.contains("forgotten") && !message.contains("used:"), "{message}");
    Ok(())
}

#[test]
fn a_step_that_reads_what_it_writes_is_refused() -> Outcome {
    let mut r = recorder_with(&["w"])?;
    let w = r.find("w")?;
    let refused = r.run(&accumulate::CARD, Params::dims([("N", N)]), &[w.into(), w.into()]);
    assert!(refused.is_err_and(|error| error.to_string().contains("memory of its own")));
    Ok(())
}

#[test]
fn an_operand_of_another_size_is_refused_by_name() -> Outcome {
    let mut r = recorder_with(&["w"])?;
    let w = r.find("w")?;
    let y = r.activation("y", &[("N", N)])?;
    let refused = r.run(&accumulate::CARD, Params::dims([("N", N + 1)]), &[w.into(), y.into()]);
    let message = refused.err().ok_or("expected an error")?.to_string();
    assert!(message.contains("expected 65 elements") && message.contains("w (N=64)"), "{message}");
    Ok(())
}

/// y = a + b, where a is used once more, before b is made: the gradient that a and b share must not be added to
/// before b's producer has read it.
#[test]
fn a_shared_gradient_is_copied_before_it_is_added_to_cpu() -> Outcome {
    let mut r = recorder_with(&["w"])?;
    let w = r.find("w")?;
    let output = r.new_tensor("output", Role::State, DType::F32, &[("N", N)])?;
    let params = || Params::dims([("N", N)]);
    let copy = |r: &mut Recorder, x, name: &str| {
        let y = r.activation(name, &[("N", N)])?;
        r.run(&accumulate::CARD, params(), &[x, y].map(Into::into))?;
        r.on_backward(&[y], move |r| {
            let dy = r.gradient_of(y)?;
            r.run(&accumulate::CARD, Params::dims([("N", N)]), &[dy.into(), GradientTo(x)])
        });
        Ok::<_, evenkeel_schedule::ScheduleError>(y)
    };
    let sum = |r: &mut Recorder, a, b, name: &str| {
        let y = r.activation(name, &[("N", N)])?;
        r.run(&add::CARD, params(), &[a, b, y].map(Into::into))?;
        r.on_backward(&[y], move |r| {
            r.pass_gradient(y, a)?;
            r.pass_gradient(y, b)
        });
        Ok::<_, evenkeel_schedule::ScheduleError>(y)
    };
    let a = copy(&mut r, w, "a")?;
    let b = copy(&mut r, w, "b")?;
    let again = copy(&mut r, a, "again")?;
    let first = sum(&mut r, a, b, "first")?;
    let last = sum(&mut r, first, again, "last")?;
    // The upstream gradient is w itself, so every path adds w once: a twice (directly, and again), b once.
    if let Some(target) = r.gradient_target(last)? {
        r.run(&accumulate::CARD, params(), &[w.into(), target.tensor.into()])?;
    }
    r.run(&accumulate::CARD, params(), &[last.into(), output.into()])?;
    r.backward()?;
    let schedule = Arc::new(r.finish()?);
    let mut cpu = evenkeel_schedule::CpuExecutor::new(Arc::clone(&schedule));
    let values: Vec<f32> = (0..N).map(|i| i as f32).collect();
    cpu.write(schedule.find("w")?, bytemuck::cast_slice(&values))?;
    cpu.run(Phase::ForwardBackward);
    let got: Vec<f32> = bytemuck::pod_collect_to_vec(&cpu.read(schedule.find("w.grad")?));
    let expected: Vec<f32> = values.iter().map(|value| 3.0 * value).collect();
    assert_eq!(got, expected);
    Ok(())
}
