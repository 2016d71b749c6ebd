//! Of y = x w^T (`matmul_nt`), dx is `matmul_nn` of dy and w and dw is `matmul_tn` of dy and x: the cards' references
//! against differences of a random projection of y. Their arguments have names of their own, so the harness, which goes
//! by names, does not try this.

use evenkeel_shaders::{Card, Params, Values, matmul_nn, matmul_nt, matmul_tn};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A difference of a linear function is its slope but for rounding: 1e-16 times sums of some hundred terms.
const TOLERANCE: f64 = 1e-12;

const M: usize = 5;
const N: usize = 7;
const K: usize = 6;
const STRIDE: usize = 8;

#[test]
fn dx_and_dw_are_the_slopes_of_the_loss() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut draw = |len: usize| -> Vec<f64> { (0..len).map(|_| f64::from(random.next_u32()) / 2e9 - 1.0).collect() };
    let (x, w, dy) = (draw(M * K), draw(N * K), draw(M * STRIDE));
    let dx = product(&matmul_nn::CARD, [("M", M), ("N", K), ("K", N), ("x_stride", STRIDE)], &dy, &w);
    let dw = product(&matmul_tn::CARD, [("M", N), ("N", K), ("K", M), ("x_stride", STRIDE)], &dy, &x);
    assert_slopes(&dx, &x, |x| loss(x, &w, &dy));
    assert_slopes(&dw, &w, |w| loss(&x, w, &dy));
}

fn loss(x: &[f64], w: &[f64], dy: &[f64]) -> f64 {
    let y = product(&matmul_nt::CARD, [("M", M), ("N", N), ("K", K), ("y_stride", STRIDE)], x, w);
    y.iter().zip(dy).map(|(y, dy)| y * dy).sum()
}

fn product(card: &Card, dims: [(&'static str, usize); 4], x: &[f64], w: &[f64]) -> Vec<f64> {
    let values = Values::from([("x", x.to_vec()), ("w", w.to_vec())]);
    (card.reference)(&Params::dims(dims).with_dim("accumulate", 0), &values)["y"].clone()
}

fn assert_slopes(gradient: &[f64], at: &[f64], loss: impl Fn(&[f64]) -> f64) {
    assert_eq!(gradient.len(), at.len());
    for (i, got) in gradient.iter().enumerate() {
        let moved = |by: f64| {
            let mut at = at.to_vec();
            at[i] += by;
            loss(&at)
        };
        let slope = (moved(1.0) - moved(-1.0)) / 2.0;
        assert!((got - slope).abs() <= TOLERANCE, "element {i}: expected {slope}, got {got}");
    }
}
