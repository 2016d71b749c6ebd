//! Steps that begin while the one before them runs: the same bits, the same records, nothing lost with what is given up.

use std::{error::Error, sync::Arc, time::Duration};

use evenkeel_data::{Batches, Corpus, Order};
use evenkeel_gpu::Progress;
use evenkeel_train::{
    Compute, Executor, HostTime, Program, Setup, StepRecord, Trainer,
    settings::{Settings, Sources},
};

type Outcome = Result<(), Box<dyn Error>>;

/// Everything that a step can have: micro-batches, TVR after every second step, instruments.
const TINY: [&str; 13] = [
    "model.hidden_size=24",
    "model.intermediate_size=40",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=1",
    "model.vocab_size=256",
    "model.max_position_embeddings=8",
    "train.batch_size=3",
    "train.seq_len=8",
    "train.grad_accumulation=2",
    "tvr.enabled=true",
    "tvr.interval=2",
    "tvr.target_std=0.012",
];
const STEPS: u64 = 6;
const LR: f64 = 5e-3;

struct Run {
    program: Program,
    executor: Executor,
    trainer: Trainer,
}

impl Run {
    async fn new(compute: &Compute) -> Result<Self, Box<dyn Error>> {
        let settings = settings()?;
        let setup = Setup::new(&settings, compute)?;
        let weights = setup.weights.load(&setup.config)?;
        let executor = setup.program.prepare(compute, &weights, &mut |_, _| ()).await?;
        let trainer = Trainer::new(&setup.program, setup.batches, 2)?;
        Ok(Self { program: setup.program, executor, trainer })
    }

    fn begin(&mut self, step: u64) {
        self.trainer.begin(step, LR, step == 4);
    }

    /// The next record, without what clocks say.
    async fn record(&mut self) -> Result<StepRecord, Box<dyn Error>> {
        Ok(timeless(self.trainer.record(&mut self.executor).await?))
    }

    async fn bits(&mut self) -> Result<Vec<u32>, Box<dyn Error>> {
        let mut bits = Vec::new();
        for (id, tensor) in self.program.schedule.tensors() {
            if tensor.within.is_some() || tensor.name == "optimizer.state" {
                let gradient = tensor.name.ends_with(".grad");
                bits.extend(self.executor.read(id).await?.into_iter().filter(|_| !gradient).map(f32::to_bits));
            }
        }
        Ok(bits)
    }

    /// Every step alone; records and, after each, the bits of parameters, moments and state.
    async fn alone(compute: &Compute) -> Result<(Vec<StepRecord>, Vec<Vec<u32>>), Box<dyn Error>> {
        let mut run = Self::new(compute).await?;
        let (mut records, mut bits) = (Vec::new(), Vec::new());
        for step in 1..=STEPS {
            run.begin(step);
            records.push(run.record().await?);
            bits.push(run.bits().await?);
        }
        assert_eq!(records.iter().filter(|record| record.tvr_rescaled.is_some()).count(), 2);
        assert_eq!(records.iter().filter(|record| record.measurement.is_some()).count(), 1);
        Ok((records, bits))
    }
}

fn settings() -> Result<Settings, Box<dyn Error>> {
    let set = TINY.iter().map(ToString::to_string).collect();
    Ok(Settings::resolve(&Sources { set, ..Sources::default() })?)
}

fn timeless(record: StepRecord) -> StepRecord {
    StepRecord { time: Duration::ZERO, host: HostTime::default(), ..record }
}

async fn check_ahead(compute: &Compute) -> Outcome {
    let (records, bits) = Run::alone(compute).await?;
    let mut run = Run::new(compute).await?;
    run.begin(1);
    for step in 1..=STEPS {
        if step < STEPS {
            run.begin(step + 1);
        }
        assert_eq!(run.record().await?, records[step as usize - 1]);
    }
    assert!(run.bits().await? == bits[STEPS as usize - 1], "steps begun ahead: expected the same bits, got others");
    Ok(())
}

/// What begins ahead is given up after every step, with as much of it done as the device came to, and begun again.
async fn check_abandon(compute: &Compute) -> Outcome {
    let (records, bits) = Run::alone(compute).await?;
    let mut run = Run::new(compute).await?;
    for step in 1..=STEPS {
        run.begin(step);
        run.begin(step + 1);
        assert_eq!(run.record().await?, records[step as usize - 1]);
        run.trainer.abandon(&mut run.executor).await?;
        assert!(run.bits().await? == bits[step as usize - 1], "step {step}: expected the bits of the step alone");
    }
    Ok(())
}

/// A host's loop, which never waits, with a budget of nothing: one dispatch at a time.
async fn check_pieces(compute: &Compute) -> Outcome {
    let (records, bits) = Run::alone(compute).await?;
    let mut run = Run::new(compute).await?;
    let (mut got, mut calls, mut most) = (Vec::new(), 0, 0);
    while got.len() < STEPS as usize {
        let next = run.trainer.begun().unwrap_or(got.len() as u64) + 1;
        if next <= STEPS && next < got.len() as u64 + 3 {
            run.begin(next);
        }
        let progress = run.trainer.advance(&mut run.executor, Duration::ZERO)?;
        calls += usize::from(progress == Progress::More);
        if let Executor::Gpu(gpu) = &run.executor {
            most = most.max(gpu.in_flight());
        }
        got.extend(run.trainer.take()?.map(timeless));
    }
    assert_eq!(got, records);
    assert!(run.bits().await? == bits[STEPS as usize - 1], "in pieces: expected the same bits, got others");
    if let Executor::Gpu(gpu) = &run.executor {
        assert!(calls > gpu.dispatches(evenkeel_schedule::Phase::ForwardBackward), "expected pieces, got {calls}");
        assert!(most <= 3, "expected at most three submits in flight, got {most}");
    }
    Ok(())
}

/// Tokens in order: 24 in a micro-batch, 48 in a step; the target of the last is the first of the next.
fn batches_of(tokens: &[u16]) -> Result<Batches, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("stream.bin");
    let header = [20240520, 1, tokens.len() as i32].into_iter().chain([0; 253]);
    let shard: Vec<u8> =
        header.flat_map(i32::to_le_bytes).chain(tokens.iter().flat_map(|id| id.to_le_bytes())).collect();
    std::fs::write(&path, shard)?;
    Ok(Batches::new(Corpus::open(&[&path], 256)?, Order::Sequential, 0, 3, 8, 2)?)
}

/// The third step has a token whose embedding is not a number, and the fourth does not: it must not have been applied when
/// the third one's loss is known, nor may TVR, which is due after the third, have changed a weight.
async fn check_non_finite(compute: &Compute) -> Outcome {
    const BAD: usize = 7;
    let tokens: Vec<u16> = (0..200).map(|i| if i == 108 { BAD as u16 } else { 100 + i % 50 }).collect();
    let settings = settings()?;
    let setup = Setup::new(&settings, compute)?;
    let mut weights = setup.weights.load(&setup.config)?;
    weights[0][BAD * 24] = f32::NAN;
    let batches = batches_of(&tokens)?;
    let executor = setup.program.prepare(compute, &weights, &mut |_, _| ()).await?;
    let trainer = Trainer::new(&setup.program, batches, 2)?;
    let mut run = Run { program: setup.program, executor, trainer };
    for step in [1, 2, 3] {
        run.begin(step);
    }
    for _ in [1, 2] {
        assert!(run.record().await?.loss.is_finite());
    }
    run.trainer.abandon(&mut run.executor).await?;
    let before = run.bits().await?;
    run.begin(3);
    run.begin(4);
    let record = run.record().await?;
    assert!(!record.loss.is_finite() && !record.applied && record.tvr_rescaled.is_none(), "{record:?}");
    let first = run.trainer.first_non_finite(&mut run.executor, 3).await?;
    assert_eq!(first.as_deref(), Some("parameter model.embed_tokens.weight"));
    // The state has the norm of the step that was skipped; everything else is as before it.
    let after = run.bits().await?;
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert!(changed <= 8, "expected the bits before the step that was skipped, got {changed} others");
    // The fourth alone is a good one: it would have been applied.
    run.begin(4);
    assert!(run.record().await?.applied);
    let changed = after.iter().zip(run.bits().await?).filter(|(before, after)| *before != after).count();
    assert!(changed > 8, "expected an update, got none");
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
    check_ahead: steps_begun_ahead_are_the_same_cpu steps_begun_ahead_are_the_same_gpu;
    check_abandon: steps_given_up_leave_no_trace_cpu steps_given_up_leave_no_trace_gpu;
    check_pieces: steps_in_pieces_are_the_same_cpu steps_in_pieces_are_the_same_gpu;
    check_non_finite: no_update_passes_a_loss_that_is_not_finite_cpu no_update_passes_a_loss_that_is_not_finite_gpu;
}

/// The data of 60 tokens begin again in the first micro-batch of the second step, and in the second of the third.
#[test]
fn a_step_tells_of_a_wrap_in_any_of_its_micro_batches_cpu() -> Outcome {
    pollster::block_on(async {
        let setup = Setup::new(&settings()?, &Compute::Cpu)?;
        let weights = setup.weights.load(&setup.config)?;
        let tokens: Vec<u16> = (100..160).collect();
        let executor = setup.program.prepare(&Compute::Cpu, &weights, &mut |_, _| ()).await?;
        let trainer = Trainer::new(&setup.program, batches_of(&tokens)?, 2)?;
        let mut run = Run { program: setup.program, executor, trainer };
        let mut wrapped = Vec::new();
        for step in 1..=4 {
            run.begin(step);
            wrapped.push(run.record().await?.wrapped);
        }
        assert_eq!(wrapped, [false, true, true, true]);
        Ok(())
    })
}

/// The device says which step it has done, and is not believed without.
#[test]
fn a_record_of_another_step_is_an_error_cpu() -> Outcome {
    pollster::block_on(async {
        let mut run = Run::new(&Compute::Cpu).await?;
        run.begin(1);
        // The first part of it, which writes the number of the step.
        assert_eq!(run.trainer.advance(&mut run.executor, Duration::ZERO)?, Progress::More);
        run.executor.write(run.trainer.update().step, &[LR as f32, 9.0])?;
        let error = run.record().await.err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains('1') && error.contains('9')), "{error:?}");
        Ok(())
    })
}

#[test]
fn a_record_without_a_step_is_an_error_cpu() -> Outcome {
    let compute = Compute::Cpu;
    let mut run = pollster::block_on(Run::new(&compute))?;
    let error = pollster::block_on(run.trainer.record(&mut run.executor)).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("trainer: expected a step that has begun, got none"));
    Ok(())
}
