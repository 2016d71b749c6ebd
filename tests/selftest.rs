//! The harness is fed broken kernels: each must be caught, and by the stage that is there for it. The sound kernels that
//! they are made from must pass, so what is caught is the one thing that is broken.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use evenkeel_shaders::{
    Card, Case, CpuArgs, Fill, Form, Param, Params, Values, Variant, expand, magnitude_median,
    rational_bwd_coefficients, rational_bwd_x, rational_fwd, read, segment_moments, segment_rescale,
    segment_statistics, segment_sum, write,
};
use evenkeel_tests::{Stage, Subject};

/// y = x w / sqrt(mean(x^2) + eps) over rows, a lane per row.
const NORM: &str = "
#import grid
struct Params { groups: u32, group_offset: u32, R: u32, C: u32, eps: f32, accumulate: u32, }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;
@compute @workgroup_size(8)
fn norm(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let r = group_index(workgroup, grid, params.group_offset) * 8u + lane;
    if r >= params.R { return; }
    var squares = 0.0;
    for (var c = 0u; c < params.C; c += 1u) { squares += x[r * params.C + c] * x[r * params.C + c]; }
    let rstd = inverseSqrt(squares / f32(params.C) + params.eps);
    for (var c = 0u; c < params.C; c += 1u) {
        let i = r * params.C + c;
        let value = x[i] * rstd * w[c];
        if params.accumulate != 0u { y[i] += value; } else { y[i] = value; }
    }
}";

type Reference = fn(&Params, &Values) -> Values;

fn norm_card() -> Card {
    Card {
        name: "norm",
        args: leak(vec![read("x", &["R", "C"]), read("w", &["C"]), write("y", &["R", "C"])]),
        params: &[Param::Dim("R"), Param::Dim("C"), Param::Scalar("eps"), Param::Dim("accumulate")],
        variants: leak(vec![norm_variant(NORM)]),
        reference: norm_reference,
        cpu: norm_cpu,
        nmse: 1e-12,
        cases: || [(1, 1), (19, 5)].map(|(r, c)| norm_case(r, c)).to_vec(),
        gradients: &[],
        flops: |p| 5 * (p.dim("R") * p.dim("C")) as u64,
    }
}

fn norm_variant(wgsl: &'static str) -> Variant {
    Variant::portable("row_per_lane", wgsl, |p, _| p.dim("R").div_ceil(8) as u64, |p, _| 2 * p.dim("C") as u64)
}

fn norm_case(rows: usize, channels: usize) -> Case {
    Case::new(Params::dims([("R", rows), ("C", channels)]).with_scalar("eps", 1e-2))
}

fn norm_reference(p: &Params, v: &Values) -> Values {
    let y = |i: usize| v["x"][i] / rms(p, v, i / p.dim("C")) * v["w"][i % p.dim("C")];
    Values::from([("y", (0..v["x"].len()).map(y).collect())])
}

fn rms(p: &Params, v: &Values, row: usize) -> f64 {
    let row = &v["x"][row * p.dim("C")..(row + 1) * p.dim("C")];
    (row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64 + f64::from(p.scalar("eps"))).sqrt()
}

fn norm_cpu(p: &Params, mut args: CpuArgs<'_>) {
    let (x, w, y) = (args.f32("x"), args.f32("w"), args.f32_mut("y"));
    for (y, x) in y.chunks_mut(p.dim("C")).zip(x.chunks(p.dim("C"))) {
        let squares: f32 = x.iter().map(|x| x * x).sum();
        let rstd = 1.0 / (squares / x.len() as f32 + p.scalar("eps")).sqrt();
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = if p.accumulates() { *y } else { 0.0 } + x * rstd * w;
        }
    }
}

fn norm_bwd_card(reference: Reference) -> Card {
    Card {
        name: "norm_bwd",
        args: leak(vec![
            read("dy", &["R", "C"]),
            read("x", &["R", "C"]),
            read("w", &["C"]),
            write("dx", &["R", "C"]),
            write("dw_partial", &["R", "C"]),
        ]),
        gradients: &[],
        reference,
        ..norm_card()
    }
}

fn norm_bwd_reference(p: &Params, v: &Values) -> Values {
    let (channels, dy, x, w) = (p.dim("C"), &v["dy"], &v["x"], &v["w"]);
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    for i in 0..x.len() {
        let row = i / channels;
        let rms = rms(p, v, row);
        let projection: f64 = (0..channels).map(|c| dy[row * channels + c] * w[c] * x[row * channels + c]).sum();
        dx[i] = dy[i] * w[i % channels] / rms - x[i] * projection / (channels as f64 * rms.powi(3));
        dw[i] = dy[i] * x[i] / rms;
    }
    Values::from([("dx", dx), ("dw_partial", dw)])
}

fn leak<T>(items: Vec<T>) -> &'static [T] {
    Box::leak(items.into_boxed_slice())
}

/// Faults of one stage, of the first card among these.
fn faults(cards: Vec<Card>, stage: Stage) -> Vec<String> {
    let cards: Vec<&'static Card> = cards.into_iter().map(|card| &*Box::leak(Box::new(card))).collect();
    let subject = Subject::new(cards[0], leak(cards));
    subject.run(stage).iter().map(ToString::to_string).collect()
}

/// What is broken, the stage that must see it, and a part of what that stage must say.
#[track_caller]
fn assert_caught(what: &str, cards: Vec<Card>, stage: Stage, says: &str) {
    let found = faults(cards, stage);
    assert!(found.iter().any(|fault| fault.contains(says)), "{what}: {stage:?} must say `{says}`, says {found:#?}");
}

/// `NORM` with a part of its text replaced.
#[track_caller]
fn edited(from: &str, to: &str) -> Card {
    assert!(NORM.contains(from), "the sound kernel has no `{from}`");
    let text = Box::leak(NORM.replacen(from, to, 1).into_boxed_str());
    Card { variants: leak(vec![norm_variant(text)]), ..norm_card() }
}

/// `card` with a part of its WGSL replaced in every variant that has it.
#[track_caller]
fn broken(card: &'static Card, from: &str, to: &str) -> Card {
    let having = card.variants.iter().filter(|variant| variant.wgsl.contains(from));
    let variants: Vec<Variant> = having
        .map(|variant| Variant { wgsl: Box::leak(variant.wgsl.replacen(from, to, 1).into_boxed_str()), ..*variant })
        .collect();
    assert!(!variants.is_empty(), "no variant of {} has `{from}`", card.name);
    Card { variants: leak(variants), ..*card }
}

#[test]
fn sound_kernels_pass() {
    for stage in Stage::ALL {
        let forward = Card { gradients: &["norm_bwd"], ..norm_card() };
        assert_eq!(faults(vec![forward, norm_bwd_card(norm_bwd_reference)], stage), Vec::<String>::new());
    }
}

#[test]
fn wrong_numbers_are_caught() {
    let edits = [
        ("wrong eps", "+ params.eps", "+ 1.01 * params.eps", "NMSE"),
        ("no eps", "+ params.eps", "+ 0.0 * params.eps", "NMSE"),
        ("swapped operands", "squares / f32(params.C)", "f32(params.C) / squares", "NMSE"),
        ("off-by-one row", "let i = r", "let i = min(r + 1u, params.R - 1u)", "case 1"),
        ("off-by-one channel", "w[c];", "w[(c + 1u) % params.C];", "NMSE"),
        ("missing tail", "r >= params.R", "r >= params.R / 8u * 8u", "NaN"),
        (
            "write behind the data",
            "var squares",
            "if r == params.R - 1u { y[params.R * params.C] = 1.0; } var squares",
            "behind the data",
        ),
        ("read behind the data", "= 0.0;", "= 1e-30 * x[params.R * params.C];", "NaN"),
        ("forgotten accumulate", "y[i] += value;", "y[i] = value;", "accumulate=1"),
        ("accumulate without being asked", "y[i] = value;", "y[i] += value;", "NaN"),
    ];
    for (what, from, to, says) in edits {
        assert_caught(what, vec![edited(from, to)], Stage::Check, says);
    }
}

#[test]
fn wrong_segments_are_caught() {
    let (sum, moments, statistics) = (&segment_sum::CARD, &segment_moments::CARD, &segment_statistics::CARD);
    let (rescale, median) = (&segment_rescale::CARD, &magnitude_median::CARD);
    let edits: [(&str, &'static Card, &str, &str, &str); 17] = [
        ("first segment for all", sum, "table[group / params.S]", "table[0]", "scalar"),
        ("chunks swapped", sum, "group % params.S, ", "params.S - 1u - group % params.S, ", "scalar"),
        ("missing tail", sum, "lane < chunk.y % 4u", "lane > 64u + chunk.y % 4u", "vec4_many_lanes"),
        ("tail of the gap", sum, "lane < chunk.y % 4u", "chunk.y % 4u > 0u && lane < 4u", "vec4_many_lanes"),
        ("mean of the chunk", moments, "/ f32(segment.y)", "/ f32(chunk.y - chunk.x)", "scalar"),
        ("cubes", moments, "fma(d * d, d * d, fourths)", "fma(d * d, d, fourths)", "scalar"),
        ("largest without the sign", moments, "max(largest4, abs(v))", "max(largest4, v)", "vec4"),
        ("N for N - 1", statistics, "max(n - 1.0, 1.0)", "n", "stats"),
        ("excess kurtosis", statistics, "(squares / n);", "(squares / n) - 3.0;", "stats"),
        ("0 / 0", statistics, "if squares > 0.0", "if squares >= 0.0", "stats"),
        ("no threshold", rescale, "params.threshold)", "0.0)", "rescaled"),
        ("segments without spread", rescale, "if !exceeds { return; }", "", "NaN"),
        ("not about the mean", rescale, "x[i] - mean", "x[i]", "x: NMSE"),
        ("gap scaled too", rescale, "< vec4(chunk.y % 4u)", "< vec4(4u)", "x: NMSE"),
        ("flag of no segment", rescale, "group % params.S == 0u", "segment == 0u", "rescaled"),
        ("lower median", median, "count % 2u == 0u", "count == 0u", "NMSE"),
        ("without stride", median, "x[i * params.stride]", "x[i]", "NMSE"),
    ];
    for (what, card, from, to, says) in edits {
        assert_caught(what, vec![broken(card, from, to)], Stage::Check, says);
    }
    let card = broken(median, "if lane == 0u {\n            var below", "if lane == rank {\n            var below");
    assert_caught("search by another lane", vec![card], Stage::Check, "NMSE");
    let card = broken(median, "if count % 2u == 0u", "if atomicLoad(&histogram[0]) == 0u");
    assert_caught("barrier after an atomic's branch", vec![card], Stage::Lint, "workgroup barrier");
    let card = broken(sum, "sum += x[i];", "sum += x[i]; workgroupBarrier();");
    assert_caught("barrier in a lane's loop", vec![card], Stage::Lint, "workgroup barrier");
}

#[test]
fn wrong_cards_are_caught() {
    let reference = |p: &Params, v: &Values| {
        let mut y = norm_reference(p, v);
        y.get_mut("y").unwrap().iter_mut().for_each(|y| *y *= 1.0 + 1e-5);
        y
    };
    assert_caught("wrong reference", vec![Card { reference, ..norm_card() }], Stage::Check, "row_per_lane");
    let cpu = |p: &Params, mut args: CpuArgs<'_>| args.f32_mut("y").fill(p.scalar("eps"));
    assert_caught("wrong CPU kernel", vec![Card { cpu, ..norm_card() }], Stage::Check, "cpu");
    let cpu = |_: &Params, mut args: CpuArgs<'_>| args.f32_mut("out").fill(0.0);
    assert_caught("unknown argument", vec![Card { cpu, ..norm_card() }], Stage::Check, "panicked");
    let never = Variant { name: "never", fits: |_| false, ..norm_variant(NORM) };
    let card = || Card { variants: leak(vec![never, norm_variant(NORM)]), ..norm_card() };
    assert_caught("variant without a case", vec![card()], Stage::Check, "never: expected a case");
    let card = Card { variants: leak(vec![norm_variant(NORM), never]), ..norm_card() };
    assert_caught("no variant for all cases", vec![card], Stage::Reflect, "the last one");
    let card = Card { params: &[Param::Dim("R"), Param::Dim("C"), Param::Dim("accumulate")], ..norm_card() };
    assert_caught("param missing in the card", vec![card], Stage::Reflect, "params");
    let card =
        Card { args: leak(vec![read("x", &["R", "C"]), read("w", &["C"]), read("y", &["R", "C"])]), ..norm_card() };
    assert_caught("wrong access", vec![card], Stage::Reflect, "read_write");
}

#[test]
fn unportable_texts_are_caught() {
    let shared = "var<workgroup> tile: array<f32, 4097>;\n@compute @workgroup_size(8)";
    let edits = [
        ("wrong binding order", "@binding(0) var<storage, read> x", "@binding(1) var<storage, read> x", "binding"),
        ("wrong params order", "R: u32, C: u32,", "C: u32, R: u32,", "params"),
        ("wrong entry point", "fn norm(", "fn normalise(", "entry point"),
        ("too many lanes", "@workgroup_size(8)", "@workgroup_size(257)", "257"),
        ("too much workgroup memory", "@compute @workgroup_size(8)", shared, "16388"),
        ("subgroups unasked", "var squares = 0.0", "var squares = subgroupAdd(0.0)", "needs Nothing"),
        ("not WGSL", "var squares", "float squares", "expected"),
    ];
    for (what, from, to, says) in edits {
        assert_caught(what, vec![edited(from, to)], Stage::Reflect, says);
    }
    let swapped = NORM
        .replace("@binding(0)", "@binding(9)")
        .replace("@binding(1)", "@binding(0)")
        .replace("@binding(9)", "@binding(1)");
    let card = Card { variants: leak(vec![norm_variant(Box::leak(swapped.into_boxed_str()))]), ..norm_card() };
    assert_caught("swapped bindings", vec![card], Stage::Reflect, "bindings");
}

#[test]
fn suspect_texts_are_caught() {
    let edits = [
        (
            "barrier after a lane's return",
            "var squares",
            "workgroupBarrier(); var squares",
            "workgroup barrier at line 16",
        ),
        ("unused binding", "* w[c]", "", "binding w"),
        ("unused param", "+ params.eps", "+ 1e-2", "params.eps"),
        ("unused offset", "params.group_offset", "0u", "params.group_offset"),
        ("output never written", "{ y[i] += value; } else { y[i] = value; }", "{ return; }", "binding y"),
        ("arrayLength", "r >= params.R", "r >= arrayLength(&x) / params.R", "arrayLength"),
    ];
    for (what, from, to, says) in edits {
        assert_caught(what, vec![edited(from, to)], Stage::Lint, says);
    }
}

#[test]
fn unsteady_kernels_are_caught() {
    // A sum whose order follows the number of threads, and one whose order changes from call to call.
    fn by_threads(p: &Params, args: CpuArgs<'_>) {
        unsteady(p, args, rayon::current_num_threads());
    }
    fn by_call(p: &Params, args: CpuArgs<'_>) {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        unsteady(p, args, 1 + CALLS.fetch_add(1, Ordering::Relaxed) % 3);
    }
    fn unsteady(p: &Params, mut args: CpuArgs<'_>, parts: usize) {
        let x = args.f32("x");
        let part = |part: &[f32]| part.iter().map(|x| x * x).sum::<f32>();
        let total: f32 = x.chunks(x.len().div_ceil(parts)).map(part).sum();
        args.f32_mut("y").fill(total * p.scalar("eps"));
    }
    assert_caught(
        "order by threads",
        vec![Card { cpu: by_threads, ..norm_card() }],
        Stage::Determinism,
        "1 and 2 threads",
    );
    assert_caught("order by call", vec![Card { cpu: by_call, ..norm_card() }], Stage::Determinism, "twice");
}

#[test]
fn loops_and_grids_are_caught() {
    let long = Variant { iterations: |_, _| 65_535, ..norm_variant(NORM) };
    let card = Card { variants: leak(vec![long]), ..norm_card() };
    assert_caught("loop over the budget", vec![card], Stage::Loops, "65535");
    assert_caught("grid without offset", vec![edited("params.group_offset", "0u")], Stage::Loops, "pieces");
    assert_caught(
        "grid without offset",
        vec![edited("r >= params.R", "r >= params.R || params.group_offset > 0u")],
        Stage::Loops,
        "pieces",
    );
}

#[test]
fn wrong_gradients_are_caught() {
    let forward = || Card { gradients: &["norm_bwd"], ..norm_card() };
    let broken: [(&str, Reference, &str); 4] = [
        ("dropped upstream", |p, v| norm_bwd_reference(p, &with(v, "dy", |_| 1.0)), "dx"),
        ("upstream's scale dropped", |p, v| norm_bwd_reference(p, &with(v, "dy", f64::signum)), "dw_partial"),
        (
            "missing projection",
            |p, v| {
                let mut values = norm_bwd_reference(p, v);
                let dx = (0..v["x"].len()).map(|i| v["dy"][i] * v["w"][i % p.dim("C")] / rms(p, v, i / p.dim("C")));
                values.insert("dx", dx.collect());
                values
            },
            "dx",
        ),
        (
            "one wrong row",
            |p, v| {
                let mut values = norm_bwd_reference(p, v);
                values.get_mut("dw_partial").unwrap()[0] *= 1.0 + 1e-4;
                values
            },
            "dw_partial",
        ),
    ];
    for (what, reference, says) in broken {
        assert_caught(what, vec![forward(), norm_bwd_card(reference)], Stage::Gradient, says);
    }
    let card = Card {
        args: leak(vec![read("dz", &["R", "C"]), read("x", &["R", "C"]), write("dx", &["R", "C"])]),
        ..norm_bwd_card(norm_bwd_reference)
    };
    assert_caught("no upstream", vec![forward(), card], Stage::Gradient, "upstream");
    assert_caught("unknown gradient", vec![forward()], Stage::Gradient, "norm_bwd");
}

/// A card with one of its variants alone, whose text, functions that it shares included, has a part replaced.
#[track_caller]
fn rewritten(card: &'static Card, variant: &str, from: &str, to: &str) -> Card {
    let variant = card.variants.iter().find(|known| known.name == variant).unwrap();
    let text = expand(variant, Form::F32).unwrap();
    assert!(text.contains(from), "{} has no `{from}`", card.name);
    let wgsl = Box::leak(text.replacen(from, to, 1).into_boxed_str());
    Card { variants: leak(vec![Variant { wgsl, ..*variant }]), ..*card }
}

#[test]
fn wrong_rationals_are_caught() {
    let (fwd, bwd_x, coefficients) = (&rational_fwd::CARD, &rational_bwd_x::CARD, &rational_bwd_coefficients::CARD);
    let edits = [
        ("groups interleaved", fwd, "vec4_abs_sum", "(4u * column)", "(4u * column % params.G)", "y: NMSE"),
        ("numerators shared", fwd, "scalar", "min(group, params.A - 1u) * 3u", "0u", "y: NMSE"),
        ("tail of rows dropped", fwd, "vec4_sum_abs", "params.R); row +=", "params.R / 4u * 4u); row +=", "NaN"),
        ("the other form", fwd, "scalar", "f.sum_abs);", "!f.sum_abs);", "y: NMSE"),
        ("the sign of x dropped", bwd_x, "vec4_sum_abs", "select(inner, x,", "select(inner, abs(x),", "dx: NMSE"),
        ("the sign of the sum dropped", bwd_x, "vec4_abs_sum", "select(inner, x,", "select(abs(inner), x,", "dx: NMSE"),
        ("Q instead of Q^2", bwd_x, "scalar", "numerator(f, x) * reciprocal)", "numerator(f, x))", "dx: NMSE"),
        ("a tile's rows skipped", coefficients, "vec4_abs_sum", "row += LANES / width;", "row += 9u;", "NMSE"),
        ("the next tile's row", coefficients, "scalar", "four < vec4(end)", "four <= vec4(end)", "NMSE"),
        (
            "the sign of b dropped",
            coefficients,
            "vec4_sum_abs",
            "select(sum, -sum,",
            "select(sum, sum,",
            "db_partial: NMSE",
        ),
    ];
    for (what, card, variant, from, to, says) in edits {
        assert_caught(what, vec![rewritten(card, variant, from, to)], Stage::Check, says);
    }
}

/// At b = 0 the form abs_sum has a kink, where a difference is no derivative: the gradient stage cannot see these cases,
/// the comparison with the reference (whose sign of zero has a test beside it) can.
#[test]
fn sign_of_zero_is_positive() {
    fn cases() -> Vec<Case> {
        let identity = |p: &Params, _: &Values| [0.0, 1.0, 0.0, 0.0, 0.0, 0.0].repeat(p.dim("A"));
        [(0, 26), (1, 26), (0, 32), (1, 32)]
            .map(|(form, channels)| {
                let dims = [("R", 19), ("C", channels), ("G", 2), ("A", 2), ("sum_abs", form), ("S", 3)];
                let case = Case::new(Params::dims(dims));
                case.fill("a", Fill::Derived(identity)).fill("b", Fill::Uniform(0.0, 0.0))
            })
            .to_vec()
    }
    let card = &rational_bwd_coefficients::CARD;
    assert_eq!(faults(vec![Card { cases, ..*card }], Stage::Check), Vec::<String>::new());
    let device = evenkeel_tests::gpu().unwrap().profile();
    for variant in card.variants.iter().filter(|variant| variant.able(&device)) {
        let builtin =
            rewritten(card, variant.name, "return select(vec4(1.0), vec4(-1.0), v < vec4<f32>());", "return sign(v);");
        assert_caught("sign(0) = 0", vec![Card { cases, ..builtin }], Stage::Check, "db_partial: NMSE");
    }
}

/// The values with one tensor changed.
fn with(values: &Values, name: &'static str, change: impl Fn(f64) -> f64) -> Values {
    let mut values = values.clone();
    values.get_mut(name).unwrap().iter_mut().for_each(|value| *value = change(*value));
    values
}
