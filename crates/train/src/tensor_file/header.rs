//! The header of a safetensors file.
//!
//! It is read straight into what is kept of it, so that it takes memory in proportion to its length, whatever it says:
//! the crate's own reader buffers every value once more at tens of bytes per digit.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::unique_keys::UniqueKeys;

/// The entry that is no tensor's: texts about the file.
const TEXTS: &str = "__metadata__";

/// What a header says of the tensors, after a check that they lie one behind the other from 0 on, each as long as its
/// shape and dtype ask for.
///
/// # Errors
/// What is wrong, as a reader of the file would word it.
pub(super) fn parse(header: &[u8]) -> Result<Metadata, String> {
    let Tensors(tensors) = serde_json::from_slice(header).map_err(|e| e.to_string())?;
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    Metadata::new(None, tensors).map_err(|e| e.to_string())
}

struct Tensors(BTreeMap<String, TensorInfo>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Tensors;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tensors, A::Error> {
        let (mut tensors, mut texts) = (BTreeMap::new(), None);
        while let Some(name) = access.next_key::<String>()? {
            let known = if name == TEXTS { texts.is_some() } else { tensors.contains_key(&name) };
            if known {
                return Err(A::Error::custom(format!("two entries {name:?}")));
            }
            if name == TEXTS {
                texts = Some(access.next_value::<UniqueKeys<String>>()?);
            } else {
                tensors.insert(name, access.next_value()?);
            }
        }
        Ok(Tensors(tensors))
    }
}
