//! The table of a checkpoint's tensors.

use evenkeel_train::inspection::{Statistics, Tensor};
use serde_json::{Value, json};

use crate::output::number;

const HEAD: [&str; 7] = ["tensor", "shape", "mean", "std", "absmax", "kurtosis", "LIR share"];

/// Aligned columns: names and shapes to the left, numbers to the right. What a tensor does not have is a dash.
pub(super) fn text(tensors: &[Tensor]) -> String {
    let head = HEAD.map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(tensors.iter().map(row)).collect();
    let widths: [usize; 7] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut table = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            table += &if column < 2 { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
        }
        table.truncate(table.trim_end().len());
        table.push('\n');
    }
    for tensor in tensors.iter().filter(|tensor| tensor.statistics.non_finite > 0) {
        let (count, elements) = (tensor.statistics.non_finite, tensor.values.len());
        table += &format!("{}: {count} of {elements} elements are not finite\n", tensor.spec.name);
    }
    table
}

fn row(tensor: &Tensor) -> [String; 7] {
    let Statistics { mean, std, absmax, kurtosis, .. } = tensor.statistics;
    let optional = |value: Option<f64>, format: fn(f64) -> String| value.map_or_else(|| "-".to_owned(), format);
    [
        tensor.spec.name.clone(),
        tensor.spec.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
        number(mean),
        optional(std, number),
        number(absmax),
        optional(kurtosis, |value| format!("{value:.2}")),
        optional(tensor.lir_share, |value| format!("{value:.2}")),
    ]
}

/// One tensor as JSON. What it does not have, or what is not finite, is null.
pub(super) fn json(tensor: &Tensor) -> Value {
    let Statistics { mean, std, absmax, kurtosis, non_finite } = tensor.statistics;
    json!({
        "name": tensor.spec.name,
        "shape": tensor.spec.shape,
        "mean": mean,
        "std": std,
        "absmax": absmax,
        "kurtosis": kurtosis,
        "lir_share": tensor.lir_share,
        "non_finite": non_finite,
    })
}
