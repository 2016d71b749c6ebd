//! The executor against the CPU executor, on schedules of a few kernels.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use evenkeel_gpu::{Gpu, GpuError, GpuExecutor, Progress, select};
use evenkeel_schedule::{CpuExecutor, DType, Dim, Operand, ParameterDecl, Phase, Recorder, Role, Schedule, TensorId};
use evenkeel_shaders::{Arg, Card, Param, Params, Values, Variant, add, fill, read_write, rms_norm_fwd, scale, sum};
use pollster::block_on;

fn gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| Arc::new(open())).clone()
}

fn open() -> Gpu {
    block_on(async { select(None).await?.open().await }).unwrap_or_else(|error| panic!("{error}"))
}

fn executor(schedule: &Arc<Schedule>) -> GpuExecutor {
    block_on(GpuExecutor::new(gpu(), schedule.clone(), |_, _| ())).unwrap()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Adds one; on every class of device its cost is so high, and its grid with idle workgroups so large, that it is split.
static COSTLY_INCREMENT: Card = Card {
    name: "increment",
    args: &ARGS,
    params: &[Param::Dim("N")],
    variants: &[Variant::portable("direct", INCREMENT, |p, _| 16 * p.dim("N") as u64, |_, _| 0)],
    reference: |_, v| Values::from([("x", v["x"].iter().map(|x| x + 1.0).collect())]),
    cpu: |_, mut args| args.f32_mut("x").iter_mut().for_each(|x| *x += 1.0),
    nmse: 0.0,
    cases: Vec::new,
    gradients: &[],
    flops: |_| 100_000_000_000,
};
static ARGS: [Arg; 1] = [read_write("x", &["N"])];
const INCREMENT: &str = "
#import grid
struct Params { groups: u32, group_offset: u32, N: u32 }
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<uniform> params: Params;
@compute @workgroup_size(1)
fn increment(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let i = group_index(workgroup, grid, params.group_offset);
    if i >= params.N { return; }
    x[i] += 1.0;
}
";

const N: usize = 5 * 77;

struct Small {
    schedule: Arc<Schedule>,
    x: TensorId,
    w: TensorId,
    total: TensorId,
}

/// Begin: total = 0. ForwardBackward: y = norm(x) w; z = y + x; x += 1; total += 0.5 sum(z). Update: total *= 2.
fn small() -> Small {
    let mut recorder = Recorder::new(1 << 20, false);
    let state =
        |recorder: &mut Recorder, name, len| recorder.new_tensor(name, Role::State, DType::F32, &[("N", len)]).unwrap();
    // Weights lie in an arena; those of the norm begin behind others.
    let weights = [("bias", 3), ("w", 77)].map(|(name, extent)| ParameterDecl {
        name: name.to_owned(),
        shape: vec![Dim { name: "C", extent }],
        decayed: false,
        trainable: false,
    });
    recorder.parameters(&weights).unwrap();
    let w = recorder.find("w").unwrap();
    let x = state(&mut recorder, "x", N);
    let total = state(&mut recorder, "total", 1);
    let one = Params::dims([("N", 1)]);
    recorder.run(&fill::CARD, one.clone().with_scalar("value", 0.0), &[total.into()]).unwrap();
    recorder.begin_phase(Phase::ForwardBackward).unwrap();
    let y = recorder.activation("y", &[("N", N)]).unwrap();
    let z = recorder.activation("z", &[("N", N)]).unwrap();
    let norm = Params::dims([("R", 5), ("C", 77)]).with_scalar("eps", 1e-5);
    let all = Params::dims([("N", N)]);
    let rstd = recorder.activation("rstd", &[("R", 5)]).unwrap();
    recorder.run(&rms_norm_fwd::CARD, norm, &[x.into(), w.into(), y.into(), rstd.into()]).unwrap();
    recorder.run(&add::CARD, all.clone(), &[y.into(), x.into(), z.into()]).unwrap();
    recorder.run(&COSTLY_INCREMENT, all.clone(), &[x.into()]).unwrap();
    let summed = all.with_scalar("scale", 0.5).with_dim("accumulate", 1);
    recorder.run(&sum::CARD, summed, &[z.into(), total.into()]).unwrap();
    recorder.begin_phase(Phase::Update).unwrap();
    recorder.run(&scale::CARD, one.with_scalar("alpha", 2.0), &[Operand::Whole(total)]).unwrap();
    Small { schedule: Arc::new(recorder.finish().unwrap()), x, w, total }
}

fn inputs() -> (Vec<f32>, Vec<f32>) {
    let x = (0..N).map(|i| (i * 37 % 101) as f32 / 25.0 - 2.0).collect();
    (x, (0..77).map(|c| 0.5 + c as f32 / 77.0).collect())
}

/// Sums of 385 terms of size 4 in f32.
fn assert_near(got: &[u8], expected: &[u8]) {
    for (got, expected) in floats(got).iter().zip(floats(expected)) {
        assert!((got - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{got} {expected}");
    }
}

/// Every step, then whole phases, then phases in parts of one dispatch.
#[test]
fn computes_what_the_cpu_executor_computes() {
    let small = small();
    let (mut cpu, mut gpu) = (CpuExecutor::new(small.schedule.clone()), executor(&small.schedule));
    let (x, w) = inputs();
    for (tensor, values) in [(small.x, &x), (small.w, &w)] {
        cpu.write(tensor, &bytes(values)).unwrap();
        gpu.write(tensor, &bytes(values)).unwrap();
    }
    for index in 0..small.schedule.steps().len() {
        cpu.run_step(index);
        block_on(gpu.run_step(index)).unwrap();
        for (_, view) in small.schedule.steps()[index].accesses() {
            assert_near(&block_on(gpu.read(view.tensor)).unwrap(), &cpu.read(view.tensor));
        }
    }
    let phases = [Phase::Begin, Phase::ForwardBackward, Phase::ForwardBackward, Phase::Update];
    for round in 0..2 {
        for phase in phases {
            cpu.run(phase);
            if round == 0 {
                block_on(gpu.run(phase)).unwrap();
                continue;
            }
            gpu.start(phase).unwrap();
            while gpu.advance(Duration::ZERO).unwrap() == Progress::More {}
        }
        block_on(gpu.wait()).unwrap();
        assert_near(&block_on(gpu.read(small.total)).unwrap(), &cpu.read(small.total));
        assert_eq!(block_on(gpu.read(small.x)).unwrap(), cpu.read(small.x));
    }
}

#[test]
fn costly_steps_are_split_and_progress_is_told() {
    let small = small();
    let mut told = Vec::new();
    let gpu = Arc::new(Gpu::from_host(gpu().device().clone(), gpu().queue().clone()));
    let executor = block_on(GpuExecutor::new(gpu, small.schedule.clone(), |done, total| told.push((done, total))));
    let executor = executor.unwrap();
    assert!(executor.dispatches(Phase::ForwardBackward) > small.schedule.phase(Phase::ForwardBackward).len());
    assert_eq!(executor.dispatches(Phase::Begin), 1);
    assert_eq!(executor.dispatches(Phase::Evaluate), 0);
    // fill, add, norm, increment, sum, scale.
    assert_eq!(told.last(), Some(&(6, 6)));
    assert!(told.is_sorted());
}

#[test]
fn late_readbacks_hold_what_was_there_when_they_were_asked_for() {
    let small = small();
    let mut executor = executor(&small.schedule);
    let mut pending = Vec::new();
    for i in 0..5 {
        executor.write(small.total, &bytes(&[i as f32])).unwrap();
        block_on(executor.run(Phase::Update)).unwrap();
        pending.push(executor.read_later(small.total).unwrap());
    }
    executor.write(small.total, &bytes(&[-1.0])).unwrap();
    let mut polled = pending.pop().unwrap();
    let last = loop {
        if let Some(bytes) = polled.try_take().unwrap() {
            break bytes;
        }
    };
    assert_eq!(floats(&last), [8.0]);
    for (i, readback) in pending.into_iter().enumerate() {
        assert_eq!(floats(&block_on(readback.wait()).unwrap()), [2.0 * i as f32]);
    }
}

/// Asked for between a phase's start and its end, a read has what the end leaves; given up, it never comes.
#[test]
fn reads_wait_for_the_end_of_the_phase_that_was_started() {
    let small = small();
    let mut executor = executor(&small.schedule);
    let (x, w) = inputs();
    executor.write(small.x, &bytes(&x)).unwrap();
    executor.write(small.w, &bytes(&w)).unwrap();
    executor.start(Phase::ForwardBackward).unwrap();
    let mut read = executor.read_later(small.x).unwrap();
    assert!(read.try_take().unwrap().is_none(), "expected nothing of a phase that was not submitted, got a read");
    while executor.advance(Duration::ZERO).unwrap() == Progress::More {
        assert!(executor.in_flight() <= 1, "without a budget: expected one submit at a time");
    }
    let expected: Vec<f32> = x.iter().map(|x| x + 1.0).collect();
    assert_eq!(floats(&block_on(read.wait()).unwrap()), expected);
    executor.start(Phase::ForwardBackward).unwrap();
    let mut read = executor.read_later(small.x).unwrap();
    executor.abandon();
    block_on(executor.wait()).unwrap();
    assert!(read.try_take().unwrap().is_none());
    assert_eq!(floats(&block_on(executor.read(small.x)).unwrap()), expected);
}

/// However large the budget, the device has at most three submits before it.
#[test]
fn at_most_three_submits_are_in_flight() {
    let small = small();
    let mut executor = executor(&small.schedule);
    executor.start(Phase::ForwardBackward).unwrap();
    let mut most = 0;
    while executor.advance(Duration::MAX).unwrap() == Progress::More {
        most = most.max(executor.in_flight());
        block_on(executor.room()).unwrap();
    }
    assert_eq!(most, 3);
    block_on(executor.wait()).unwrap();
    assert_eq!(executor.in_flight(), 0);
}

/// The allocator holds after 200 steps what it held after the first.
#[test]
fn memory_is_constant() {
    // A device of its own: other tests allocate at the same time.
    let gpu = Arc::new(open());
    let small = small();
    let mut executor = block_on(GpuExecutor::new(gpu.clone(), small.schedule.clone(), |_, _| ())).unwrap();
    let (x, w) = inputs();
    executor.write(small.w, &bytes(&w)).unwrap();
    let mut held = Vec::new();
    for _ in 0..200 {
        executor.write(small.x, &bytes(&x)).unwrap();
        for phase in [Phase::Begin, Phase::ForwardBackward, Phase::Update] {
            block_on(executor.run(phase)).unwrap();
        }
        block_on(executor.read(small.total)).unwrap();
        block_on(executor.wait()).unwrap();
        held.push(gpu.allocator_report().unwrap());
    }
    assert_eq!(held[0], held[199]);
}

#[test]
fn wrong_uses_are_errors() {
    let small = small();
    let mut executor = executor(&small.schedule);
    let error = executor.write(small.total, &[0; 3]).unwrap_err().to_string();
    assert_eq!(error, "total (N=1): expected 4 bytes, got 3");
    executor.start(Phase::ForwardBackward).unwrap();
    executor.advance(Duration::ZERO).unwrap();
    let error = executor.start(Phase::Update).unwrap_err();
    assert!(matches!(error, GpuError::Unfinished { phase: Phase::Update, .. }), "{error}");
    while executor.advance(Duration::from_secs(1)).unwrap() == Progress::More {}
    executor.start(Phase::Update).unwrap();
}

/// What no binding of the device can hold is refused before anything is allocated.
#[test]
fn too_large_a_tensor_is_an_error() {
    let len = usize::try_from(gpu().binding_limit() / 4).unwrap() + 1;
    let mut recorder = Recorder::new(u64::MAX, false);
    let x = recorder.new_tensor("x", Role::State, DType::F32, &[("N", len)]).unwrap();
    recorder.run(&fill::CARD, Params::dims([("N", len)]).with_scalar("value", 0.0), &[x.into()]).unwrap();
    let schedule = Arc::new(recorder.finish().unwrap());
    let error = block_on(GpuExecutor::new(gpu(), schedule, |_, _| ())).unwrap_err();
    assert!(matches!(&error, GpuError::Limit { what, .. } if what == "bytes of x"), "{error}");
    assert!(!error.to_string().contains('\n'));
}

/// A device that is lost between steps: every call is an error and none panics.
#[test]
fn lost_device_is_an_error() {
    let gpu = Arc::new(open());
    let small = small();
    let mut executor = block_on(GpuExecutor::new(gpu.clone(), small.schedule, |_, _| ())).unwrap();
    block_on(executor.run(Phase::ForwardBackward)).unwrap();
    let readback = executor.read_later(small.total).unwrap();
    gpu.device().destroy();
    // The copy may have ended before.
    let lost = |result: Result<(), GpuError>| matches!(result, Err(GpuError::Lost { .. }));
    let copied = block_on(readback.wait());
    assert!(copied.is_ok() || matches!(copied, Err(GpuError::Lost { .. })), "{copied:?}");
    assert!(lost(block_on(executor.read(small.total)).map(|_| ())));
    assert!(lost(executor.write(small.total, &[0; 4])));
    assert!(lost(block_on(executor.run(Phase::Update))));
    assert!(lost(block_on(executor.wait())));
}
