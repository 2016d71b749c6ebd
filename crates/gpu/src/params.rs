//! A dispatch's params as the bytes of its uniform block, laid out as naga reads it from the WGSL.

use evenkeel_shaders::{DType, Params, Reflection, Value};

use crate::GpuError;

/// Encodes the grid header (`groups`, `group_offset`) and the card's params.
///
/// # Errors
/// [`GpuError::Arguments`] when a param is missing or has another type.
pub(crate) fn encode(
    kernel: &'static str,
    reflection: &Reflection,
    params: &Params,
    groups: u32,
    group_offset: u32,
) -> Result<Vec<u8>, GpuError> {
    let mut bytes = vec![0; reflection.params_size as usize];
    for member in &reflection.params {
        let value = match member.name.as_str() {
            "groups" => Some(Value::U32(groups)),
            "group_offset" => Some(Value::U32(group_offset)),
            name => params.get(name),
        };
        let word = match (member.dtype, value) {
            (DType::U32, Some(Value::U32(word))) => word,
            (DType::F32, Some(Value::F32(scalar))) => scalar.to_bits(),
            (expected, got) => {
                return Err(GpuError::Arguments {
                    kernel,
                    what: format!("param {}", member.name),
                    expected: format!("{expected:?}"),
                    got: got.map_or("nothing".to_owned(), |value| format!("{value:?}")),
                });
            }
        };
        let at = member.offset as usize;
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    Ok(bytes)
}
