//! The f64 references of the rational kernels, which the harness holds every variant to, against PyTorch's autograd
//! (`assets/golden/make_rational.py`).

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use evenkeel_shaders::{Params, Values, rational_bwd_coefficients, rational_bwd_x, rational_fwd};
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::Value;

/// Two orders of f64 operations on values of ordinary size.
const CLOSE: f64 = 1e-11;

fn assert_close(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs();
        assert!(error <= CLOSE * expected.abs().max(1.0), "{what}[{i}]: expected {expected}, got {got}");
    }
}

fn numbers(view: &TensorView<'_>) -> Vec<f64> {
    bytemuck::pod_collect_to_vec(view.data())
}

/// The columns' sums of a matrix, as `column_sum` makes them of partial gradients.
fn column_sums(partial: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).map(|column| partial.iter().skip(column).step_by(columns).sum()).collect()
}

fn check(name: &str, form: &str, tensors: &BTreeMap<&str, TensorView<'_>>) {
    let [rows, channels] = [0, 1].map(|i| tensors["x"].shape()[i]);
    let (groups, numerators) = (tensors["b"].shape()[0], tensors["a"].shape()[0]);
    let values = Values::from(["x", "dy", "a", "b"].map(|name| (name, numbers(&tensors[name]))));
    let params = Params::dims([
        ("R", rows),
        ("C", channels),
        ("G", groups),
        ("A", numerators),
        ("sum_abs", usize::from(form == "sum_abs")),
    ]);
    let expected = |what: &str| numbers(&tensors[what]);
    let forward = (rational_fwd::CARD.reference)(&params, &values);
    assert_close(&format!("{name} y"), &forward["y"], &expected("y"));
    let backward = (rational_bwd_x::CARD.reference)(&params, &values);
    assert_close(&format!("{name} dx"), &backward["dx"], &expected("dx"));
    for tiles in [1, 2] {
        let partial = (rational_bwd_coefficients::CARD.reference)(&params.clone().with_dim("S", tiles), &values);
        let (da, db) = (&partial["da_partial"], &partial["db_partial"]);
        assert_close(&format!("{name} da, {tiles} tiles"), &column_sums(da, numerators * 6), &expected("da"));
        assert_close(&format!("{name} db, {tiles} tiles"), &column_sums(db, groups * 4), &expected("db"));
    }
}

#[test]
fn rational_references_are_those_of_pytorch_cpu() -> Result<(), Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/golden/rational.safetensors");
    let bytes = fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
    let cases = metadata.metadata().as_ref().and_then(|map| map.get("cases")).ok_or("expected the cases")?;
    let cases: BTreeMap<String, Value> = serde_json::from_str(cases)?;
    assert_eq!(cases.len(), 8);
    for (name, case) in &cases {
        let mut tensors = BTreeMap::new();
        for tensor in ["x", "dy", "a", "b", "y", "dx", "da", "db"] {
            tensors.insert(tensor, file.tensor(&format!("{name}.{tensor}"))?);
        }
        check(name, case["form"].as_str().ok_or("expected a form")?, &tensors);
    }
    Ok(())
}
