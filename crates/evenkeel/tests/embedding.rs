//! Training inside a host program, on its device.
#![allow(clippy::unwrap_used)]

use std::{
    error::Error,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use evenkeel::{Compute, RunFolder, Settings, TrainError, Trainer, on_host, wgpu};
use evenkeel_train::checkpoint::trainer_state::{Best, TrainerState};
use pollster::block_on;

#[path = "../examples/embedded.rs"]
#[allow(unreachable_pub, reason = "an example is a crate of its own")]
mod embedded;

type Outcome = Result<(), Box<dyn Error>>;

const TINY: &str = "
[model]
hidden_size = 24
intermediate_size = 40
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
vocab_size = 256
max_position_embeddings = 16
[train]
steps = 6
batch_size = 3
seq_len = 16
[tvr]
enabled = true
interval = 2
target_std = 0.012
";

/// A device of the host's, with handlers that count.
struct Host {
    device: wgpu::Device,
    queue: wgpu::Queue,
    errors: Arc<AtomicUsize>,
    losses: Arc<AtomicUsize>,
}

impl Host {
    fn open() -> Result<Self, Box<dyn Error>> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapter = block_on(wgpu::util::initialize_adapter_from_env_or_default(&instance, None))?;
        let (device, queue) = block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
        let (errors, losses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (error, loss) = (errors.clone(), losses.clone());
        device.on_uncaptured_error(Arc::new(move |_| {
            error.fetch_add(1, Ordering::Relaxed);
        }));
        device.set_device_lost_callback(move |_, _| {
            loss.fetch_add(1, Ordering::Relaxed);
        });
        Ok(Self { device, queue, errors, losses })
    }

    fn compute(&self) -> Compute {
        on_host(&self.device, &self.queue)
    }
}

fn settings() -> Result<Settings, TrainError> {
    Settings::from_toml(TINY)
}

fn bits(trainer: &mut Trainer) -> Result<Vec<u32>, TrainError> {
    let mut bits = Vec::new();
    for name in ["model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", "lm_head.weight"] {
        bits.extend(block_on(trainer.parameter(name))?.into_iter().map(f32::to_bits));
    }
    Ok(bits)
}

fn in_pieces(trainer: &mut Trainer, budget: Duration, until: u64) -> Result<usize, TrainError> {
    let mut calls = 0;
    while trainer.steps_done() < until {
        trainer.step_within(budget)?;
        calls += 1;
    }
    Ok(calls)
}

/// The same bits in pieces of one dispatch, in one piece, and across a checkpoint in the middle of a step.
fn pieces(compute: &Compute) -> Outcome {
    let mut plain = block_on(Trainer::new(&settings()?, compute))?;
    let mut losses = Vec::new();
    while !plain.is_finished() {
        losses.push(block_on(plain.step())?.loss);
    }
    let expected = bits(&mut plain)?;
    let mut pieces = block_on(Trainer::new(&settings()?, compute))?;
    let calls = in_pieces(&mut pieces, Duration::ZERO, 6)?;
    // A call starts one part of a step, or submits one dispatch where the device is idle; a step has more than 30.
    let least = if matches!(compute, Compute::Cpu) { 6 * 2 } else { 6 * 30 };
    assert!(calls > least, "expected more than {least} calls, got {calls}");
    assert!(bits(&mut pieces)? == expected, "in pieces: expected the same bits, got others");

    let place = tempfile::tempdir()?;
    let folder = RunFolder::create(&place.path().join("run"))?;
    folder.write_run_file(&settings()?.to_toml()?)?;
    let mut first = block_on(Trainer::new(&settings()?, compute))?;
    in_pieces(&mut first, Duration::ZERO, 3)?;
    for _ in 0..3 {
        first.step_within(Duration::ZERO)?;
    }
    let path = block_on(first.save(&folder))?;
    assert!(path.is_dir());
    let done = first.steps_done();
    drop(first);
    let mut second = block_on(Trainer::resume(&folder, compute))?;
    assert_eq!(second.steps_done(), done);
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hearing = heard.clone();
    second.on_step(move |row| hearing.lock().unwrap().push(row.loss));
    in_pieces(&mut second, Duration::from_millis(1), 6)?;
    assert_eq!(*heard.lock().unwrap(), losses[done as usize..]);
    assert!(bits(&mut second)? == expected, "resumed: expected the same bits, got others");
    let loss = block_on(second.evaluate())?;
    assert_eq!(loss, block_on(plain.evaluate())?);
    assert!(loss.is_some_and(f64::is_finite));
    Ok(())
}

#[test]
fn pieces_give_the_bits_of_whole_steps_cpu() -> Outcome {
    pieces(&Compute::Cpu)
}

#[test]
fn pieces_give_the_bits_of_whole_steps_gpu() -> Outcome {
    pieces(&Host::open()?.compute())
}

/// A run that started from another model goes on when that is gone, and what `evenkeel pretrain` knew of its best
/// checkpoint stays known.
#[test]
fn a_run_goes_on_without_its_source_and_keeps_its_best_cpu() -> Outcome {
    let place = tempfile::tempdir()?;
    let compute = &Compute::Cpu;
    let source = RunFolder::create(&place.path().join("source"))?;
    source.write_run_file(&settings()?.to_toml()?)?;
    let mut first = block_on(Trainer::new(&settings()?, compute))?;
    block_on(first.step())?;
    let from = block_on(first.save(&source))?;

    let with = format!(
        "[model]\nfrom = {from:?}\nfreeze = ['model.embed_tokens']\n[optimizer]\nkind = 'novograd'\n[train]\nsteps = 4\nbatch_size = 3\nseq_len = 16"
    );
    let settings = Settings::from_toml(&with)?;
    let mut whole = block_on(Trainer::new(&settings, compute))?;
    assert_eq!(block_on(whole.parameter("lm_head.weight"))?, block_on(first.parameter("lm_head.weight"))?);
    in_pieces(&mut whole, Duration::MAX, 4)?;
    let run = RunFolder::create(&place.path().join("run"))?;
    run.write_run_file(&settings.to_toml()?)?;
    let mut part = block_on(Trainer::new(&settings, compute))?;
    block_on(part.step())?;
    let saved = block_on(part.save(&run))?;
    // What `evenkeel pretrain` would have written after an evaluation.
    let best = Best { step: 1, valid_loss: 5.5 };
    let text = std::fs::read_to_string(saved.join("trainer.json"))?;
    let with_best =
        text.trim_end().trim_end_matches('}').trim_end().to_owned() + ", \"best\": {\"step\": 1, \"valid_loss\": 5.5}}";
    std::fs::write(saved.join("trainer.json"), with_best)?;
    let stored = |folder: &Path| TrainerState::read(&folder.join("trainer.json"));
    assert_eq!(stored(&saved)?.best, Some(best));

    drop(source);
    std::fs::remove_dir_all(place.path().join("source"))?;
    let mut again = block_on(Trainer::resume(&run, compute))?;
    assert_eq!(again.settings(), &settings, "a run's settings are those that it began with");
    block_on(again.step())?;
    let state = stored(&block_on(again.save(&run))?)?;
    assert_eq!((state.step, state.best), (2, Some(best)));
    in_pieces(&mut again, Duration::MAX, 4)?;
    assert!(bits(&mut again)? == bits(&mut whole)?, "without its source: expected the same bits, got others");
    Ok(())
}

/// Errors of the host's own reach the host and not the trainer; a lost device ends the trainer with an error, and another
/// goes on from its checkpoint.
#[test]
fn handlers_stay_the_hosts_and_a_lost_device_is_an_error_gpu() -> Outcome {
    let host = Host::open()?;
    let place = tempfile::tempdir()?;
    let folder = RunFolder::create(&place.path().join("run"))?;
    folder.write_run_file(&settings()?.to_toml()?)?;
    let mut trainer = block_on(Trainer::new(&settings()?, &host.compute()))?;
    in_pieces(&mut trainer, Duration::from_millis(5), 2)?;
    // The host asks for more than there is.
    let _ = host.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("the host's"),
        size: u64::MAX,
        usage: wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    assert_eq!(host.errors.load(Ordering::Relaxed), 1);
    in_pieces(&mut trainer, Duration::from_millis(5), 4)?;
    block_on(trainer.save(&folder))?;
    let saved = trainer.steps_done();
    host.device.destroy();
    let lost = (0..1000).find_map(|_| trainer.step_within(Duration::from_millis(5)).err());
    assert!(matches!(lost, Some(TrainError::Gpu(evenkeel::gpu::GpuError::Lost { .. }))), "{lost:?}");
    assert!(matches!(trainer.step_within(Duration::ZERO), Err(TrainError::Failed)));
    assert!(matches!(block_on(trainer.save(&folder)), Err(TrainError::Failed)));
    assert_eq!(host.errors.load(Ordering::Relaxed), 1, "the trainer's faults are its own");
    drop(trainer);
    let _ = host.device.poll(wgpu::PollType::Poll);
    assert_eq!(host.losses.load(Ordering::Relaxed), 1);
    let mut again = block_on(Trainer::resume(&folder, &Host::open()?.compute()))?;
    assert_eq!(again.steps_done(), saved);
    in_pieces(&mut again, Duration::from_millis(5), 6)?;
    assert!(again.is_finished());
    Ok(())
}

/// The example trains, draws on the same device, and its picture has the curve on the background.
#[test]
fn the_example_trains_while_it_draws_gpu() -> Outcome {
    let seen = block_on(embedded::run())?;
    assert_eq!(seen.losses.len(), 40);
    assert!(seen.frames > 1);
    assert!(seen.losses[39] < seen.losses[0]);
    println!("{} frames, {} of them late", seen.frames, seen.late);
    let bright = seen.picture.chunks(4).filter(|pixel| pixel[0] > 200).count();
    // A line from the left to the right of nine tenths of 512 pixels.
    assert!((400..4000).contains(&bright), "expected a curve, got {bright} bright pixels");
    let place = tempfile::tempdir()?;
    let path = place.path().join("loss.png");
    embedded::write_png(&path, &seen.picture)?;
    let mut reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path)?)).read_info()?;
    let mut pixels = vec![0; seen.picture.len()];
    reader.next_frame(&mut pixels)?;
    assert!(pixels == seen.picture);
    Ok(())
}
