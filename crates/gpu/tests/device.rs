//! The GPU crate on whatever adapter there is. Software drivers leak memory with every device, so that all tests but
//! the one that destroys its device share one.
#![allow(clippy::unwrap_used)]

use std::{sync::OnceLock, time::Duration};

use evenkeel_gpu::{Gpu, GpuError, Kernel, adapters, select};
use evenkeel_shaders::{Arg, Card, Class, Param, Params, Precision, Values, Variant, read_write, rms_norm_fwd};
use pollster::block_on;

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| open().unwrap_or_else(|error| panic!("{error}")))
}

fn open() -> Result<Gpu, GpuError> {
    block_on(async { select(None).await?.open().await })
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// Adds one to each element of `x`; a workgroup has one lane, which owns an element.
static INCREMENT: Card = increment(&[DIRECT]);

/// wgpu refuses an override that the text does not have.
static UNKNOWN_OVERRIDE: Card = increment(&[Variant { overrides: &[("NO_SUCH_OVERRIDE", 1.0)], ..DIRECT }]);

const DIRECT: Variant = Variant::portable("direct", INCREMENT_WGSL, |p, _| p.dim("R") as u64, |_, _| 0);

static ARGS: [Arg; 1] = [read_write("x", &["R"])];

const fn increment(variants: &'static [Variant]) -> Card {
    Card {
        name: "increment",
        args: &ARGS,
        params: &[Param::Dim("R")],
        variants,
        reference: |_, v| Values::from([("x", v["x"].iter().map(|x| x + 1.0).collect())]),
        cpu: |_, mut args| args.f32_mut("x").iter_mut().for_each(|x| *x += 1.0),
        nmse: 0.0,
        cases: Vec::new,
        gradients: &[],
        flops: |p| p.dim("R") as u64,
    }
}

const INCREMENT_WGSL: &str = "
#import grid
struct Params { groups: u32, group_offset: u32, R: u32 }
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<uniform> params: Params;
@compute @workgroup_size(1)
fn increment(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let i = group_index(workgroup, grid, params.group_offset);
    if i >= params.R { return; }
    x[i] += 1.0;
}
";

#[test]
fn software_driver_matches_both_of_its_names() {
    let known = block_on(adapters());
    assert!(!known.is_empty(), "{}", GpuError::NoAdapter);
    for summary in known {
        assert!(summary.matches(&summary.name.to_uppercase()) && summary.matches(&summary.driver));
        if summary.name.contains("llvmpipe") {
            assert_eq!(summary.device.class, Class::Software);
            assert!(summary.matches("lavapipe") && summary.matches("LLVMpipe") && !summary.matches("radeon"));
        }
    }
}

#[test]
fn unknown_adapter_is_an_error_that_lists_what_there_is() {
    let error = block_on(select(Some("no such thing"))).unwrap_err().to_string();
    let known = &block_on(adapters())[0];
    assert!(error.contains("\"no such thing\"") && error.contains(&known.name) && !error.contains('\n'), "{error}");
}

/// Guard words behind every argument come back as they went, and the result is the reference's.
#[test]
fn dispatch_computes_the_reference() {
    for case in (rms_norm_fwd::CARD.cases)() {
        let (rows, channels) = (case.params.dim("R"), case.params.dim("C"));
        let x: Vec<f32> = (0..rows * channels).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
        let w: Vec<f32> = (0..channels).map(|c| 0.5 + c as f32 / channels as f32).collect();
        let guard = [7.0, 8.0, 9.0];
        let with_guard = |values: &[f32]| bytes(&[values, &guard].concat());
        let nan = |len| with_guard(&vec![f32::NAN; len]);
        let mut arguments = [with_guard(&x), with_guard(&w), nan(rows * channels), nan(rows)];
        let card = &rms_norm_fwd::CARD;
        let variant = card.variant(&gpu().profile(), &case.params, Precision::F32).unwrap();
        block_on(gpu().dispatch_once(Kernel::f32(card, variant), &case.params, &mut arguments)).unwrap();
        let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect();
        let expected = (card.reference)(&case.params, &Values::from([("x", wide(&x)), ("w", wide(&w))]));
        let got = floats(&arguments[2]);
        for (got, expected) in got.iter().zip(&expected["y"]) {
            // A sum of C squares, a square root and two products in f32.
            assert!((f64::from(*got) - expected).abs() < 1e-5 * expected.abs().max(1.0), "{got} {expected}");
        }
        assert_eq!(got[rows * channels..], guard);
        assert_eq!(floats(&arguments[0]), [&x[..], &guard].concat());
    }
}

/// More workgroups than a dimension has, whole and in pieces: each element is incremented exactly once.
#[test]
fn grids_fold_and_split() {
    for (elements, count) in [(1, 1), (5, 3), (5, 9), (65_535, 1), (65_537, 1), (200_005, 1), (200_005, 3)] {
        let params = Params::dims([("R", elements)]);
        let mut arguments = [bytes(&vec![0.5; elements + 2])];
        block_on(gpu().dispatch_in_pieces(
            Kernel::f32(&INCREMENT, &INCREMENT.variants[0]),
            &params,
            &mut arguments,
            count,
        ))
        .unwrap();
        let got = floats(&arguments[0]);
        assert!(got[..elements].iter().all(|&x| x == 1.5), "{elements} elements in {count} pieces");
        assert_eq!(got[elements..], [0.5, 0.5]);
    }
}

#[test]
fn wrong_arguments_are_named() {
    let call = |params: &Params, arguments: &mut [Vec<u8>]| {
        block_on(gpu().dispatch_once(Kernel::f32(&INCREMENT, &INCREMENT.variants[0]), params, arguments))
            .unwrap_err()
            .to_string()
    };
    let five = Params::dims([("R", 5)]);
    assert_eq!(call(&five, &mut [vec![0; 16]]), "increment: x: expected 20 bytes, got 16");
    assert_eq!(call(&five, &mut []), "increment: arguments: expected 1, got 0");
    assert_eq!(call(&Params::new(), &mut [vec![0; 20]]), "increment: param: expected Dim(\"R\"), got None");
    let scalar = Params::new().with_scalar("R", 5.0);
    assert_eq!(call(&scalar, &mut [vec![0; 20]]), "increment: param: expected Dim(\"R\"), got Some(F32(5.0))");
}

#[test]
fn refused_pipeline_is_an_error() {
    let mut arguments = [vec![0; 20]];
    let params = Params::dims([("R", 5)]);
    let card = &UNKNOWN_OVERRIDE;
    let error =
        block_on(gpu().dispatch_once(Kernel::f32(card, &card.variants[0]), &params, &mut arguments)).unwrap_err();
    assert!(matches!(error, GpuError::Refused { .. }), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
}

/// A device that does not end its work in time is an error; it goes on afterwards.
#[test]
fn hung_device_is_an_error() {
    let hasty = Gpu::from_host(gpu().device().clone(), gpu().queue().clone()).with_time_limit(Duration::ZERO);
    let elements = 1_000_000;
    let (params, mut arguments) = (Params::dims([("R", elements)]), [vec![0; elements * 4]]);
    let mut late =
        || block_on(hasty.dispatch_once(Kernel::f32(&INCREMENT, &INCREMENT.variants[0]), &params, &mut arguments));
    // On a busy machine the device may be done before this thread looks at it.
    let error = (0..50).find_map(|_| late().err()).unwrap();
    assert!(matches!(error, GpuError::Timeout { .. }), "{error}");
    let (params, mut arguments) = (Params::dims([("R", 1)]), [bytes(&[0.5])]);
    block_on(gpu().dispatch_once(Kernel::f32(&INCREMENT, &INCREMENT.variants[0]), &params, &mut arguments)).unwrap();
    assert_eq!(floats(&arguments[0]), [1.5]);
}

/// A device that is destroyed gives errors at every later call and never a panic.
#[test]
fn destroyed_device_is_an_error() {
    let gpu = open().unwrap();
    let params = Params::dims([("R", 5)]);
    let call = |gpu: &Gpu| {
        block_on(gpu.dispatch_once(Kernel::f32(&INCREMENT, &INCREMENT.variants[0]), &params, &mut [vec![0; 20]]))
    };
    call(&gpu).unwrap();
    gpu.device().destroy();
    for _ in 0..2 {
        let error = call(&gpu).unwrap_err();
        assert!(matches!(error, GpuError::Lost { .. }), "{error}");
    }
}

/// The same with a device that an embedding application opened: its handlers are its own.
#[test]
fn host_device_computes_and_its_loss_is_an_error() {
    let host = open().unwrap();
    let gpu = Gpu::from_host(host.device().clone(), host.queue().clone());
    assert_eq!(gpu.adapter(), host.adapter());
    let params = Params::dims([("R", 5)]);
    let call = |gpu: &Gpu| {
        block_on(gpu.dispatch_once(Kernel::f32(&INCREMENT, &INCREMENT.variants[0]), &params, &mut [vec![0; 20]]))
    };
    call(&gpu).unwrap();
    gpu.device().destroy();
    for _ in 0..2 {
        let error = call(&gpu).unwrap_err();
        assert!(matches!(error, GpuError::Lost { .. }), "{error}");
    }
}
