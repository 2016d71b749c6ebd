//! Three small kernels with known results: an adapter that gets one of them wrong is refused before it trains.
//!
//! All numbers are whole and small, so that every sum is exact in f32 whatever its order.

use evenkeel_shaders::{Arg, Card, Param, Params, Values, Variant, read, write};

use crate::{Gpu, GpuError, Kernel};

/// A tree through workgroup memory: a barrier that does not hold shows here.
static REDUCTION: Card = Card {
    name: "self_test_reduction",
    args: &REDUCTION_ARGS,
    params: &[Param::Dim("R"), Param::Dim("C")],
    variants: &[Variant::portable("tree", REDUCTION_WGSL, |p, _| p.dim("R") as u64, |_, _| 16)],
    reference: row_sums,
    ..BLANK
};
static REDUCTION_ARGS: [Arg; 2] = [read("x", &["R", "C"]), write("y", &["R"])];
const REDUCTION_WGSL: &str = "
#import grid
struct Params { groups: u32, group_offset: u32, R: u32, C: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;        // (R, C)
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // (R)
@group(0) @binding(2) var<uniform> params: Params;
var<workgroup> partial: array<f32, 64>;
@compute @workgroup_size(64)
fn self_test_reduction(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(workgroup, grid, params.group_offset);
    if row >= params.R { return; }
    var sum = 0.0;
    for (var c = lane; c < params.C; c += 64u) { sum += x[row * params.C + c]; }
    partial[lane] = sum;
    workgroupBarrier();
    for (var width = 32u; width > 0u; width /= 2u) {
        if lane < width { partial[lane] += partial[lane + width]; }
        workgroupBarrier();
    }
    if lane == 0u { y[row] = partial[0]; }
}
";

/// A loop per lane.
static SUM: Card = Card {
    name: "self_test_sum",
    args: &REDUCTION_ARGS,
    params: SUM_PARAMS,
    variants: SUM_VARIANTS,
    reference: row_sums,
    ..BLANK
};
const SUM_PARAMS: &[Param] = &[Param::Dim("R"), Param::Dim("C")];
const SUM_VARIANTS: &[Variant] =
    &[Variant::portable("row_per_lane", SUM_WGSL, |p, _| p.dim("R").div_ceil(64) as u64, |_, _| 512)];
const SUM_WGSL: &str = "
#import grid
struct Params { groups: u32, group_offset: u32, R: u32, C: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;        // (R, C)
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // (R)
@group(0) @binding(2) var<uniform> params: Params;
@compute @workgroup_size(64)
fn self_test_sum(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(workgroup, grid, params.group_offset) * 64u + lane;
    if row >= params.R { return; }
    var sum = 0.0;
    for (var c = 0u; c < params.C; c += 1u) { sum += x[row * params.C + c]; }
    y[row] = sum;
}
";

/// Tiles of both operands through workgroup memory, with edges.
static MATMUL: Card = Card {
    name: "self_test_matmul",
    args: &MATMUL_ARGS,
    params: &[Param::Dim("M"), Param::Dim("N"), Param::Dim("K")],
    variants: &[Variant::portable(
        "tile",
        MATMUL_WGSL,
        |p, _| (p.dim("M").div_ceil(8) * p.dim("N").div_ceil(8)) as u64,
        |_, _| 64,
    )],
    reference: product,
    ..BLANK
};
static MATMUL_ARGS: [Arg; 3] = [read("a", &["M", "K"]), read("b", &["K", "N"]), write("c", &["M", "N"])];
const MATMUL_WGSL: &str = "
#import grid
struct Params { groups: u32, group_offset: u32, M: u32, N: u32, K: u32 }
@group(0) @binding(0) var<storage, read> a: array<f32>;        // (M, K)
@group(0) @binding(1) var<storage, read> b: array<f32>;        // (K, N)
@group(0) @binding(2) var<storage, read_write> c: array<f32>;  // (M, N)
@group(0) @binding(3) var<uniform> params: Params;
var<workgroup> tile_a: array<f32, 64>;
var<workgroup> tile_b: array<f32, 64>;
@compute @workgroup_size(8, 8)
fn self_test_matmul(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let index = group_index(workgroup, grid, params.group_offset);
    if index >= params.groups { return; }
    let columns = (params.N + 7u) / 8u;
    let m = index / columns * 8u + lane.y;
    let n = index % columns * 8u + lane.x;
    let at = lane.y * 8u + lane.x;
    var sum = 0.0;
    for (var k = 0u; k < params.K; k += 8u) {
        let inside_a = m < params.M && k + lane.x < params.K;
        let inside_b = n < params.N && k + lane.y < params.K;
        tile_a[at] = select(0.0, a[min(m, params.M - 1u) * params.K + min(k + lane.x, params.K - 1u)], inside_a);
        tile_b[at] = select(0.0, b[min(k + lane.y, params.K - 1u) * params.N + min(n, params.N - 1u)], inside_b);
        workgroupBarrier();
        for (var i = 0u; i < 8u; i += 1u) { sum = fma(tile_a[lane.y * 8u + i], tile_b[i * 8u + lane.x], sum); }
        workgroupBarrier();
    }
    if m < params.M && n < params.N { c[m * params.N + n] = sum; }
}
";

/// What these cards do not use: they run on a GPU only and have no gradients.
const BLANK: Card = Card {
    name: "",
    args: &[],
    params: &[],
    variants: &[],
    reference: |_, _| Values::new(),
    cpu: |_, _| (),
    nmse: 0.0,
    cases: Vec::new,
    gradients: &[],
    flops: |_| 0,
};

fn row_sums(p: &Params, v: &Values) -> Values {
    Values::from([("y", v["x"].chunks(p.dim("C")).map(|row| row.iter().sum()).collect())])
}

fn product(p: &Params, v: &Values) -> Values {
    let (rows, columns, inner) = (p.dim("M"), p.dim("N"), p.dim("K"));
    let dot = |m: usize, n: usize| (0..inner).map(|k| v["a"][m * inner + k] * v["b"][k * columns + n]).sum();
    Values::from([("c", (0..rows * columns).map(|i| dot(i / columns, i % columns)).collect())])
}

/// Whether a device computes what it should, in a few milliseconds where the driver has the kernels cached: barriers,
/// loops, a matrix product.
///
/// # Errors
/// [`GpuError::SelfTest`], or whatever else the device does wrong.
pub async fn self_test(gpu: &Gpu) -> Result<(), GpuError> {
    try_card(gpu, &REDUCTION, Params::dims([("R", 37), ("C", 301)]), "reduction").await?;
    try_card(gpu, &SUM, Params::dims([("R", 131), ("C", 257)]), "sum").await?;
    try_card(gpu, &MATMUL, Params::dims([("M", 33), ("N", 17), ("K", 29)]), "matmul").await
}

async fn try_card(gpu: &Gpu, card: &'static Card, params: Params, test: &'static str) -> Result<(), GpuError> {
    let mut values = Values::new();
    let mut arguments = Vec::new();
    for (seed, arg) in card.args.iter().enumerate() {
        let value = |i: usize| (i * (37 + seed) % 101) as f32 - 50.0;
        let numbers: Vec<f32> = (0..arg.len(&params)).map(value).collect();
        arguments.push(bytemuck::cast_slice(&numbers).to_vec());
        values.insert(arg.name, numbers.into_iter().map(f64::from).collect());
    }
    gpu.dispatch_once(Kernel::f32(card, &card.variants[0]), &params, &mut arguments).await?;
    let expected = (card.reference)(&params, &values);
    for (arg, bytes) in card.args.iter().zip(&arguments) {
        let Some(expected) = expected.get(arg.name) else { continue };
        let got: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
        if let Some(index) = (0..expected.len()).find(|&i| f64::from(got[i]) != expected[i]) {
            let adapter = gpu.summary.to_string();
            return Err(GpuError::SelfTest { test, index, expected: expected[index], got: got[index], adapter });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// One element of the result is taken to be wrong.
    #[test]
    fn wrong_adapter_is_refused() {
        static WRONG: Card = Card {
            name: "self_test_sum",
            args: &REDUCTION_ARGS,
            params: SUM_PARAMS,
            variants: SUM_VARIANTS,
            reference: |p, v| {
                let mut sums = row_sums(p, v);
                sums.entry("y").and_modify(|y| y[5] += 1.0);
                sums
            },
            ..BLANK
        };
        pollster::block_on(async {
            let gpu = crate::select(None).await.unwrap().open().await.unwrap();
            self_test(&gpu).await.unwrap();
            let params = Params::dims([("R", 131), ("C", 257)]);
            let error = try_card(&gpu, &WRONG, params, "sum").await.unwrap_err();
            assert!(matches!(error, GpuError::SelfTest { test: "sum", index: 5, .. }), "{error}");
        });
    }
}
