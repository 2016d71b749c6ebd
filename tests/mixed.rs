//! Half precision: how it rounds, and what the harness catches where a kernel gets it wrong.
#![allow(clippy::unwrap_used)]

use evenkeel_gpu::Kernel;
use evenkeel_shaders::{Card, Form, Params, Precision, Variant, accumulate, convert, matmul_nt};
use evenkeel_tests::{Stage, Subject};
use half::f16;

/// The forms that the adapter has: packed always, native where its shaders know f16.
fn forms() -> Vec<Form> {
    let native = Form { precision: Precision::F16, packed: false };
    let has_f16 = evenkeel_tests::gpu().unwrap().profile().f16;
    [Some(Form { packed: true, ..native }), has_f16.then_some(native)].into_iter().flatten().collect()
}

/// What the kernel that rounds makes of these numbers, bit by bit.
fn converted(form: Form, values: &[f32]) -> Vec<f16> {
    let kernel = Kernel { card: &convert::CARD, variant: &convert::CARD.variants[0], form };
    let params = Params::dims([("N", values.len())]);
    let mut arguments = [bytemuck::cast_slice(values).to_vec(), vec![0; 2 * values.len()]];
    let gpu = evenkeel_tests::gpu().unwrap();
    pollster::block_on(gpu.dispatch_once(kernel, &params, &mut arguments)).unwrap();
    let bits: Vec<u16> = bytemuck::pod_collect_to_vec(&arguments[1]);
    bits.into_iter().map(f16::from_bits).collect()
}

/// Every number of f16 and the middles between neighbours, which go to the even one, with what lies just beside them.
#[test]
fn rounding_is_to_nearest_even_in_both_forms() {
    let mut values = Vec::new();
    for bits in 0..f16::MAX.to_bits() {
        let [low, high] = [bits, bits + 1].map(|bits| f16::from_bits(bits).to_f32());
        let middle = (low + high) / 2.0;
        for value in [low, middle, f32::from_bits(middle.to_bits() - 1), f32::from_bits(middle.to_bits() + 1)] {
            values.extend([value, -value]);
        }
    }
    for form in forms() {
        for (value, got) in values.iter().zip(converted(form, &values)) {
            let expected = f16::from_f32(*value);
            // Below f16's normal numbers a driver may round as it likes.
            let near = (got.to_f32() - value).abs() < f16::from_bits(1).to_f32();
            let same = got.to_bits() == expected.to_bits() || (expected.to_f32().abs() < 6.2e-5 && near);
            assert!(same, "{form:?}: {value:e}: expected {expected}, got {got}");
        }
    }
}

/// What the kernel that reads and writes half precision makes of these numbers.
fn copied(form: Form, values: &[f16]) -> Vec<f16> {
    let kernel = Kernel { card: &accumulate::CARD, variant: &accumulate::CARD.variants[0], form };
    let params = Params::dims([("N", values.len()), ("accumulate", 0)]);
    let bits: Vec<u16> = values.iter().map(|value| value.to_bits()).collect();
    let mut arguments = [bytemuck::cast_slice(&bits).to_vec(), vec![0; 2 * values.len()]];
    let gpu = evenkeel_tests::gpu().unwrap();
    pollster::block_on(gpu.dispatch_once(kernel, &params, &mut arguments)).unwrap();
    let bits: Vec<u16> = bytemuck::pod_collect_to_vec(&arguments[1]);
    bits.into_iter().map(f16::from_bits).collect()
}

/// The loss scale counts on it: what does not fit is not quietly the largest number, and a NaN stays one, also where it
/// is read again.
#[test]
fn overflow_is_infinity_and_nan_stays_in_both_forms() {
    let finite = [65_504.0, 65_519.996, -65_504.0, 0.0];
    let infinite = [65_520.0, 65_536.0, 1e30, f32::MAX, f32::INFINITY, -65_520.0, -1e30, f32::NEG_INFINITY];
    let nan = [f32::NAN, -f32::NAN, f32::from_bits(0x7fff_ffff), f32::from_bits(0x7f80_0001)];
    let values = [&finite[..], &infinite[..], &nan[..]].concat();
    for form in forms() {
        let got = converted(form, &values);
        let again = copied(form, &got);
        for (value, got) in values.iter().zip(got).chain(values.iter().zip(again)) {
            let same = if value.is_nan() { got.is_nan() } else { got == f16::from_f32(*value) };
            assert!(same, "{form:?}: {value:e}: expected {}, got {got}", f16::from_f32(*value));
        }
    }
}

/// `card` with one variant, its text replaced, and what a stage says of it.
fn faults_of_broken(card: &'static Card, variant: &str, from: &str, to: &str, stage: Stage) -> Vec<String> {
    let variant = card.variants.iter().find(|known| known.name == variant).unwrap();
    assert!(variant.wgsl.contains(from), "{} has no `{from}`", variant.name);
    let wgsl = Box::leak(variant.wgsl.replacen(from, to, 1).into_boxed_str());
    let variants = Box::leak(Box::new([Variant { wgsl, ..*variant }]));
    let broken: &'static Card = Box::leak(Box::new(Card { variants, ..*card }));
    let cards: &'static [&'static Card] = Box::leak(Box::new([broken]));
    Subject::new(broken, cards).run(stage).iter().map(ToString::to_string).collect()
}

/// It loses nothing in f32: only the trials in half precision can see it.
#[test]
fn a_sum_that_is_kept_in_half_precision_is_caught() {
    let from = "sum[i] += w_kn * widen(x[min(row + i, M - 1u) * K4 + k4]);";
    let to = "sum[i] = widen(narrow(sum[i] + w_kn * widen(x[min(row + i, M - 1u) * K4 + k4])));";
    let found = faults_of_broken(&matmul_nt::CARD, "direct", from, to, Stage::Check);
    for half in ["packed halves, case 7 in f16: ", "packed halves, case 7 in f16 into f32: "] {
        assert!(found.iter().any(|fault| fault.contains(half) && fault.contains("NMSE")), "{half}: {found:#?}");
    }
    assert!(!found.iter().any(|fault| fault.contains("in f32: ")), "{found:#?}");
}

/// A text that forgets to round is no text of half precision, in either form.
#[test]
fn a_store_that_is_not_narrowed_is_caught() {
    let found = faults_of_broken(&convert::CARD, "vec4", "narrow(x[i])", "x[i]", Stage::Reflect);
    assert_eq!(found.iter().filter(|fault| fault.contains("y[i] = x[i]")).count(), 2, "{found:#?}");
}
