//! Parameters chosen by parts of their names: what `tvr.exclude`, `optimizer.no_decay` and `model.freeze` have in common.

use crate::TrainError;

/// Whether one of `parts` names the parameter called `name`: a part is one or several whole components of the name.
pub(crate) fn any_names(parts: &[String], name: &str) -> bool {
    parts.iter().any(|part| names(part, name))
}

fn names(part: &str, name: &str) -> bool {
    !part.is_empty() && format!(".{name}.").contains(&format!(".{part}."))
}

/// Checks that each of the `parts` that the setting `key` has names one of `candidates`, of which `kind` says what
/// they are.
///
/// # Errors
/// The first part that names none.
pub(crate) fn require_all<'a>(
    key: &str,
    parts: &[String],
    kind: &str,
    candidates: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), TrainError> {
    match parts.iter().find(|part| !candidates.clone().any(|name| names(part, name))) {
        None => Ok(()),
        Some(part) => Err(fault(key, format!("parts of the names of {kind}"), format!("{part:?}"))),
    }
}

/// The error that the setting `key` does not fit the model.
pub(crate) fn fault(key: &str, expected: impl Into<String>, got: String) -> TrainError {
    TrainError::Setting { name: key.to_owned(), expected: expected.into(), got, origin: "model".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names_are_whole_components() {
        let name = "model.layers.1.mlp.down_proj.weight";
        for part in ["down_proj", "mlp", "layers", "layers.1", "model.layers.1.mlp.down_proj.weight"] {
            assert!(names(part, name), "{part}");
        }
        for part in ["down", "layers.11", "", "down_proj.bias", "proj"] {
            assert!(!names(part, name), "{part}");
        }
    }

    #[test]
    fn a_part_that_names_nothing_is_told() {
        let check = |parts: &[&str]| {
            let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
            require_all("model.freeze", &parts, "parameters", ["a.b", "a.c"].into_iter())
        };
        assert!(check(&[]).is_ok() && check(&["a", "c"]).is_ok());
        let error = check(&["b", "d"]).map_err(|error| error.to_string());
        assert_eq!(error, Err("model.freeze: expected parts of the names of parameters, got \"d\" (model)".to_owned()));
    }
}
