#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use super::*;

/// By `statistics` of Python on [1, 2, 4, -8]: mean, stdev; the moments by hand.
#[test]
fn statistics_are_those_of_the_definitions() {
    let found = Statistics::of(&[1.0, 2.0, 4.0, -8.0]);
    let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-12, "expected {expected}, got {got}");
    close(found.mean, -0.25);
    close(found.std.unwrap(), 5.315072906367325);
    close(found.absmax, 8.0);
    // Deviations 1.25, 2.25, 4.25, -7.75: m2 = 84.75 / 4, m4 = 3961.828125 / 4.
    close(found.kurtosis.unwrap(), 4.0 * 3_961.828_125 / (84.75 * 84.75));
    assert_eq!(found.non_finite, 0);
}

#[test]
fn equal_and_single_elements_have_no_kurtosis() {
    let ones = Statistics::of(&[1.0; 5]);
    assert_eq!((ones.mean, ones.std, ones.absmax, ones.kurtosis), (1.0, Some(0.0), 1.0, None));
    let single = Statistics::of(&[-3.0]);
    assert_eq!((single.mean, single.std, single.absmax, single.kurtosis), (-3.0, None, 3.0, None));
}

#[test]
fn what_is_not_finite_shows() {
    for values in [[f32::NAN, 1.0, 2.0], [1.0, f32::NAN, 2.0]] {
        let found = Statistics::of(&values);
        assert!(found.mean.is_nan() && found.absmax.is_nan(), "{found:?}");
        assert!(found.std.unwrap().is_nan() && found.kurtosis.unwrap().is_nan(), "{found:?}");
        assert_eq!(found.non_finite, 1);
    }
    assert_eq!(Statistics::of(&[1.0, f32::NEG_INFINITY]).absmax, f64::INFINITY);
}

#[test]
fn roles_are_the_last_part_of_a_module() {
    let role = |name| {
        let Role { name, layer } = Role::of(name);
        (name, layer)
    };
    assert_eq!(role("model.layers.10.self_attn.q_proj.weight"), ("q_proj", Some(11)));
    assert_eq!(role("model.layers.0.mlp.fc1.weight"), ("fc1", Some(1)));
    assert_eq!(role("model.embed_tokens.weight"), ("embed_tokens", None));
    assert_eq!(role("lm_head.weight"), ("lm_head", None));
}

#[test]
fn a_density_counts_what_is_outside_in_the_whole() {
    // Bins of width 1 from -2; 2 is at the open end.
    let found = density(&[-2.0, -1.5, 0.0, 2.0, 9.0, f32::NAN, 1.5, 1.0], 2.0, 4);
    assert_eq!(found, [0.25, 0.0, 0.125, 0.25]);
}
