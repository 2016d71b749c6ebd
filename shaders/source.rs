//! From a variant's text to plain WGSL: `#import NAME` lines are expanded by appending `include/NAME.wgsl`, and
//! `const NAME: u32 = ...;` lines, the includes' too, take the variant's values. A variant may have other includes in an
//! import's place. There is no other mechanism: no `#ifdef`, no templates. What `stored` and `result` bring depends on the
//! form: arguments that can be stored in half precision are arrays of `Stored4` or `Result4`, read through `widen` and
//! written through `narrow`.

use crate::{Form, Needs, Precision, Variant};

/// Functions shared by kernels; they have no bindings.
const INCLUDES: &[(&str, &str)] = &[
    ("cooperative", include_str!("include/cooperative.wgsl")),
    ("cooperative_16", include_str!("include/cooperative_16.wgsl")),
    ("cooperative_8", include_str!("include/cooperative_8.wgsl")),
    ("grid", include_str!("include/grid.wgsl")),
    ("matmul_cooperative", include_str!("include/matmul_cooperative.wgsl")),
    ("matmul_load", include_str!("include/matmul_load.wgsl")),
    ("matmul_tile", include_str!("include/matmul_tile.wgsl")),
    ("rational", include_str!("include/rational.wgsl")),
    ("rational_sums", include_str!("include/rational_sums.wgsl")),
    ("rational_total_subgroup", include_str!("include/rational_total_subgroup.wgsl")),
    ("rational_total_workgroup", include_str!("include/rational_total_workgroup.wgsl")),
    ("reduce", include_str!("include/reduce.wgsl")),
    ("result_f32", include_str!("include/result_f32.wgsl")),
    ("result_stored", include_str!("include/result_stored.wgsl")),
    ("round_to_half", include_str!("include/round_to_half.wgsl")),
    ("row_lanes", include_str!("include/row_lanes.wgsl")),
    ("row_tile", include_str!("include/row_tile.wgsl")),
    ("segment", include_str!("include/segment.wgsl")),
    ("sigmoid", include_str!("include/sigmoid.wgsl")),
    ("split_rows", include_str!("include/split_rows.wgsl")),
    ("state", include_str!("include/state.wgsl")),
    ("stored_f16", include_str!("include/stored_f16.wgsl")),
    ("stored_f32", include_str!("include/stored_f32.wgsl")),
    ("stored_packed", include_str!("include/stored_packed.wgsl")),
    ("workgroup_max", include_str!("include/workgroup_max.wgsl")),
    ("workgroup_sum", include_str!("include/workgroup_sum.wgsl")),
];

/// Why a variant's text cannot be expanded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SourceError {
    /// An unknown include.
    #[error("#import: expected one of {}, got {name} (variant {variant})", include_names())]
    Import {
        /// What was asked for.
        name: String,
        /// Where.
        variant: &'static str,
    },
    /// A constant that the text does not declare.
    #[error("const {name}: expected one line `const {name}: u32 = ...;`, got {lines} (variant {variant})")]
    Const {
        /// The constant.
        name: &'static str,
        /// How many lines declare it.
        lines: usize,
        /// Where.
        variant: &'static str,
    },
}

fn include_names() -> String {
    INCLUDES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The includes that an import's name stands for.
fn includes<'a>(name: &'a str, variant: &Variant, form: Form) -> Vec<&'a str> {
    if let Some((_, instead)) = variant.includes.iter().find(|(known, _)| *known == name) {
        return instead.to_vec();
    }
    match (name, form.precision) {
        ("stored", Precision::F32) => vec!["stored_f32"],
        ("stored", _) => vec!["round_to_half", if form.packed { "stored_packed" } else { "stored_f16" }],
        ("result", Precision::F16) => vec!["result_stored"],
        ("result", _) => vec!["result_f32"],
        _ => vec![name],
    }
}

/// The variant's WGSL in this form, ready for naga.
pub fn expand(variant: &Variant, form: Form) -> Result<String, SourceError> {
    let mut text = String::with_capacity(variant.wgsl.len());
    // Enables stand in front of everything, and on the first line: diagnostics keep the file's line numbers.
    if form.native() {
        text.push_str("enable f16; ");
    }
    if matches!(variant.needs, Needs::CooperativeMatrix { .. }) {
        text.push_str("enable wgpu_cooperative_matrix; ");
    }
    let mut appended = String::new();
    let mut replaced = vec![0; variant.consts.len()];
    for line in variant.wgsl.lines() {
        if let Some(names) = line.strip_prefix("#import ") {
            for name in names.split(',').flat_map(|name| includes(name.trim(), variant, form)) {
                let Some((_, include)) = INCLUDES.iter().find(|(known, _)| *known == name) else {
                    return Err(SourceError::Import { name: name.to_owned(), variant: variant.name });
                };
                include.lines().for_each(|line| push(&mut appended, line, variant, &mut replaced));
            }
            // The line stays, empty: diagnostics keep the file's line numbers.
            text.push('\n');
        } else {
            push(&mut text, line, variant, &mut replaced);
        }
    }
    for (&(name, _), lines) in variant.consts.iter().zip(replaced) {
        if lines != 1 {
            return Err(SourceError::Const { name, lines, variant: variant.name });
        }
    }
    text.push_str(&appended);
    Ok(text)
}

/// Appends a line, with the variant's value where it is one of its constants.
fn push(text: &mut String, line: &str, variant: &Variant, replaced: &mut [usize]) {
    if let Some(i) = constant(line, variant) {
        let (name, value) = variant.consts[i];
        replaced[i] += 1;
        text.push_str(&format!("const {name}: u32 = {value}u;"));
    } else {
        text.push_str(line);
    }
    text.push('\n');
}

fn constant(line: &str, variant: &Variant) -> Option<usize> {
    let name = line.strip_prefix("const ")?.split(':').next()?.trim();
    variant.consts.iter().position(|(known, _)| *known == name)
}
