//! From a variant's text to plain WGSL: `#import NAME` lines are expanded by appending `include/NAME.wgsl`, and
//! `const NAME: u32 = ...;` lines take the variant's values. There is no other mechanism: no `#ifdef`, no templates.

use crate::Variant;

/// Functions shared by kernels; they have no bindings.
const INCLUDES: &[(&str, &str)] = &[
    ("grid", include_str!("include/grid.wgsl")),
    ("rational", include_str!("include/rational.wgsl")),
    ("rational_sums", include_str!("include/rational_sums.wgsl")),
    ("reduce", include_str!("include/reduce.wgsl")),
    ("row_lanes", include_str!("include/row_lanes.wgsl")),
    ("row_tile", include_str!("include/row_tile.wgsl")),
    ("segment", include_str!("include/segment.wgsl")),
    ("sigmoid", include_str!("include/sigmoid.wgsl")),
    ("split_rows", include_str!("include/split_rows.wgsl")),
    ("state", include_str!("include/state.wgsl")),
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

/// The variant's WGSL, ready for naga.
pub fn expand(variant: &Variant) -> Result<String, SourceError> {
    let mut text = String::with_capacity(variant.wgsl.len());
    let mut appended = String::new();
    let mut replaced = vec![0; variant.consts.len()];
    for line in variant.wgsl.lines() {
        if let Some(names) = line.strip_prefix("#import ") {
            for name in names.split(',').map(str::trim) {
                let Some((_, include)) = INCLUDES.iter().find(|(known, _)| *known == name) else {
                    return Err(SourceError::Import { name: name.to_owned(), variant: variant.name });
                };
                appended.push_str(include);
            }
            // The line stays, empty: diagnostics keep the file's line numbers.
        } else if let Some(i) = constant(line, variant) {
            let (name, value) = variant.consts[i];
            replaced[i] += 1;
            text.push_str(&format!("const {name}: u32 = {value}u;"));
        } else {
            text.push_str(line);
        }
        text.push('\n');
    }
    for (&(name, _), lines) in variant.consts.iter().zip(replaced) {
        if lines != 1 {
            return Err(SourceError::Const { name, lines, variant: variant.name });
        }
    }
    text.push_str(&appended);
    Ok(text)
}

fn constant(line: &str, variant: &Variant) -> Option<usize> {
    let name = line.strip_prefix("const ")?.split(':').next()?.trim();
    variant.consts.iter().position(|(known, _)| *known == name)
}
