//! The products with cooperative matrices where no device has any: the same texts, with the handful of operations on
//! matrices replaced by plain WGSL. What a driver makes of the operations themselves, its own test says
//! (`Gpu::test_cooperative_matrices`).
#![allow(clippy::unwrap_used)]

use evenkeel_shaders::{Backends, Card, Case, Needs, Params, Variant, matmul_nn, matmul_nt, matmul_tn};
use evenkeel_tests::{Stage, Subject};

const KERNEL: &str = include_str!("../shaders/include/matmul_cooperative.wgsl");
const EMULATION: &str = include_str!("cooperative_emulated.wgsl");

/// The card's texts with cooperative matrices, emulated, and its last one. `change` has a part of the kernel replaced.
fn emulated(card: &'static Card, cases: fn() -> Vec<Case>, [part, instead]: [&str; 2]) -> Card {
    assert!(KERNEL.contains(part), "{part}");
    let include = KERNEL.replace(part, instead) + EMULATION;
    let mut variants: Vec<Variant> = Vec::new();
    for variant in card.variants.iter().filter(|variant| matches!(variant.needs, Needs::CooperativeMatrix { .. })) {
        assert!(variant.wgsl.contains(" matmul_tile,"), "{}", variant.name);
        variants.push(Variant {
            wgsl: leak(variant.wgsl.replace(" matmul_tile,", "") + &include),
            includes: &[],
            // Of the size that a test adapter has: subgroups decide who does what.
            needs: Needs::Subgroup { min: 4, max: 128 },
            backends: Backends::ALL,
            ..*variant
        });
    }
    assert_eq!(variants.len(), 2, "{}", card.name);
    variants.extend(card.variants.last());
    Card { variants: Vec::leak(variants), cases, ..*card }
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// The card's cases, without those whose loops lavapipe 22.3 would cut short, with a sum of many tiles in their place.
fn short(card: &Card, row: usize) -> Vec<Case> {
    let strides = [("M", 9), ("N", 8), ("K", 260), ("x_stride", row), ("y_stride", 8)];
    let known = |name: &str| card.params.iter().any(|param| param.name() == name);
    let dims = strides.into_iter().filter(|(name, _)| known(name));
    let many = Case::new(dims.fold(Params::new(), |params, (name, value)| params.with_dim(name, value)));
    (card.cases)().into_iter().filter(|case| case.params.dim("K") < 100).chain([many]).collect()
}

fn faults(card: Card, stages: &[Stage]) -> Vec<String> {
    let subject = Subject::new(Box::leak(Box::new(card)), &[]);
    stages.iter().flat_map(|&stage| subject.run(stage)).map(|fault| fault.to_string()).collect()
}

/// Emulation computes in f16 too.
fn has_f16() -> bool {
    let has = evenkeel_tests::gpu().unwrap().profile().f16;
    if !has {
        eprintln!("not run: the adapter has no f16");
    }
    has
}

/// x's rows are along k in two of the three products, along m in the other. That they are written the same twice, and in
/// pieces, is the harness' to say where a device has the real ones.
fn sound(card: &'static Card, cases: fn() -> Vec<Case>) {
    if has_f16() {
        let found = faults(emulated(card, cases, ["", ""]), &[Stage::Reflect, Stage::Lint, Stage::Check]);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[test]
fn matmul_nt_is_right() {
    sound(&matmul_nt::CARD, || short(&matmul_nt::CARD, 260));
}

#[test]
fn matmul_nn_is_right() {
    sound(&matmul_nn::CARD, || short(&matmul_nn::CARD, 260));
}

#[test]
fn matmul_tn_is_right() {
    sound(&matmul_tn::CARD, || short(&matmul_tn::CARD, 12));
}

/// Several workgroups each way, edges, and several tiles of k.
fn one_case() -> Vec<Case> {
    vec![Case::new(Params::dims([("M", 70), ("N", 132), ("K", 68), ("x_stride", 68)]))]
}

/// Which of the two sides a text is compiled for, makes no difference to these.
fn changed(change: [&str; 2]) -> Card {
    let mut card = emulated(&matmul_nn::CARD, one_case, change);
    card.variants = &card.variants[1..];
    card
}

#[test]
fn faults_in_the_text_are_caught() {
    if !has_f16() {
        return;
    }
    for change in [
        ["x00 = x_square(x)", "x00 = x_square(x + SIDE)"],
        ["w10 = w_square(w + next)", "w10 = w_square(w)"],
        ["product(x11, w11, product(x10", "product(x11, w11, product(x11"],
        ["sum_square(below)", "sum_square(sum)"],
        ["sums[i] = 0.0", "sums[i] = 1.0"],
        ["let w = BM + n", "let w = n"],
        ["quad % QUADS_N * QUAD);", "0u);"],
        ["subgroupMin(lane) / size", "0u"],
        ["halves.w", "halves.z"],
        ["first.x + m", "m"],
        ["sums[at + 3u]", "sums[at]"],
        ["i < BM * BN / 4u", "i < BM * BN / 8u"],
        ["k0 < params.K", "k0 + BK < params.K"],
    ] {
        let found = faults(changed(change), &[Stage::Check]);
        assert!(found.iter().any(|fault| fault.contains("cooperative")), "{change:?}: {found:?}");
    }
}

/// What naga lets pass: matrices in flow that lanes of a subgroup differ in, and a barrier that only some reach.
#[test]
fn divergent_flow_is_caught() {
    for change in [
        ["quad < QUADS;", "quad < QUADS + lane;"],
        [
            "        multiply_tile(lane);\n        workgroupBarrier();",
            "        if lane < 32u { multiply_tile(lane); workgroupBarrier(); }",
        ],
    ] {
        let found = faults(changed(change), &[Stage::Lint]);
        assert!(!found.is_empty(), "{change:?}");
    }
}
