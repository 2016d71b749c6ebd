//! The layers that settings come from, each over the one before: defaults, preset, run file, `--set`, flags.

use std::collections::btree_map::{BTreeMap, Entry as MapEntry};
use std::path::{Path, PathBuf};

use evenkeel_data::{INDEX_FILE, Tokenizer};
use toml::{Table, Value};

use super::given::Given;
use super::key::{Fallback, Key, shown};
use super::keys::{Arch, KEYS, OptimizerKind, Settings, TokenizerName};
use super::{Preset, PresetName};
use crate::error::TrainError;

/// A vocabulary is rounded up to a multiple of this, for the tiles of the matrix kernels.
const VOCABULARY_MULTIPLE: usize = 64;

/// A key and its value.
struct Entry {
    key: &'static Key,
    value: Value,
}

/// One checked value per key, by its full name.
pub(super) struct Values(BTreeMap<String, Entry>);

impl Values {
    /// The values of all layers, of which `given` names those above the presets; every key has one, except those that
    /// `model.from` replaces.
    pub(super) fn of(mut given: Vec<Given>) -> Result<Self, TrainError> {
        let starts_from_checkpoint = drop_replaced_by_from(&mut given)?;
        refuse_kat_keys(&given)?;

        let mut values = Self(BTreeMap::new());
        for Given { key, value, .. } in given {
            values.0.insert(key.full_name(), Entry { key, value });
        }
        values.fill_defaults()?;
        if !starts_from_checkpoint {
            values.fill_from_tokenizer()?;
        }
        values.fill_from_preset()?;
        values.fill_derived()?;
        if starts_from_checkpoint {
            values.0.retain(|_, entry| !is_replaced_by_from(entry.key));
        }
        Ok(values)
    }

    /// The settings with these values.
    pub(super) fn into_settings(self) -> Result<Settings, TrainError> {
        let mut sections: BTreeMap<String, Table> = BTreeMap::new();
        for Entry { key, value } in self.0.into_values() {
            let section = sections.entry(key.section.to_owned()).or_default();
            section.insert(key.name.to_owned(), value);
        }
        Value::try_from(sections).map_err(TrainError::settings_format)?.try_into().map_err(TrainError::settings_format)
    }

    fn fill_defaults(&mut self) -> Result<(), TrainError> {
        for key in KEYS {
            let text = match key.default {
                Fallback::Toml(text) => Some(text),
                Fallback::Kat(text) => self.is_kat().then_some(text),
                Fallback::Optimizer { adamw, novograd } => Some(if self.is_novograd() { novograd } else { adamw }),
                _ => None,
            };
            if let Some(text) = text {
                let value = text.parse().map_err(TrainError::settings_format)?;
                self.fill(key, &value, "default")?;
            }
        }
        Ok(())
    }

    /// The vocabulary of a tokenizer that is given, or of prepared data, in a multiple that matrix kernels like.
    fn fill_from_tokenizer(&mut self) -> Result<(), TrainError> {
        let Some(key) = KEYS.iter().find(|key| key.full_name() == "model.vocab_size") else { return Ok(()) };
        let given = self.0.get("data.tokenizer").and_then(|entry| entry.value.as_str());
        let path = match given {
            Some(word) if TokenizerName::WORDS.contains(&word) => None,
            Some(path) => Some(path),
            None => self.prepared_data(),
        };
        let Some(path) = path.filter(|_| !self.0.contains_key("model.vocab_size")).map(PathBuf::from) else {
            return Ok(());
        };
        let vocabulary = Tokenizer::load(&path)?.vocab_size().next_multiple_of(VOCABULARY_MULTIPLE);
        let value = Value::Integer(i64::try_from(vocabulary).unwrap_or(i64::MAX));
        self.fill(key, &value, &format!("the tokenizer {}", path.display()))
    }

    /// The folder of prepared data to train on, if it is one.
    fn prepared_data(&self) -> Option<&str> {
        let [folder] = &self.0.get("data.train")?.value.as_array()?[..] else { return None };
        folder.as_str().filter(|folder| Path::new(folder).join(INDEX_FILE).is_file())
    }

    fn fill_from_preset(&mut self) -> Result<(), TrainError> {
        let Some(preset) = self.0.get("model.preset") else {
            return Ok(());
        };
        let name: PresetName = preset.value.clone().try_into().map_err(TrainError::settings_format)?;
        let mut row = Preset::of(name).values();
        if self.is_kat() {
            let groups = self.integer("model.rational_groups").and_then(|groups| u32::try_from(groups).ok());
            for (full_name, value) in &mut row {
                if *full_name == "model.intermediate_size" {
                    *value = kat_width(*value, groups.unwrap_or(1));
                }
            }
        }
        for key in KEYS {
            if let Some((_, value)) = row.iter().find(|(full_name, _)| *full_name == key.full_name()) {
                self.fill(key, &Value::Integer((*value).into()), &format!("preset {}", name.name()))?;
            }
        }
        Ok(())
    }

    fn fill_derived(&mut self) -> Result<(), TrainError> {
        for key in KEYS {
            if let Fallback::Derived(formula, derive) = key.default
                && !self.0.contains_key(&key.full_name())
            {
                let value = derive(self)
                    .ok_or_else(|| key.error("a value, as its default is not an integer", "none", formula))?;
                self.fill(key, &Value::Integer(value), formula)?;
            }
        }
        Ok(())
    }

    /// Gives `key` this value if it has none.
    fn fill(&mut self, key: &'static Key, value: &Value, origin: &str) -> Result<(), TrainError> {
        if let MapEntry::Vacant(vacant) = self.0.entry(key.full_name()) {
            let value = key.accept(value, origin)?;
            vacant.insert(Entry { key, value });
        }
        Ok(())
    }

    /// Whether the model is a KAT, as far as its key is filled.
    fn is_kat(&self) -> bool {
        self.0.get("model.arch").is_some_and(|entry| is_kat(&entry.value))
    }

    /// Whether the update rule is NovoGrad, as far as its key is filled.
    fn is_novograd(&self) -> bool {
        let novograd = Some(OptimizerKind::Novograd.name());
        self.0.get("optimizer.kind").is_some_and(|entry| entry.value.as_str() == novograd)
    }

    /// The value of an integer key, if it has one.
    pub(super) fn integer(&self, full_name: &str) -> Option<i64> {
        self.0.get(full_name)?.value.as_integer()
    }
}

/// The width of a KAT's MLP that has as many weights as a SwiGLU of width `width`: two matrices for three.
/// With more groups than channels it is no multiple of them, which the model's own check tells.
fn kat_width(width: u32, groups: u32) -> u32 {
    let whole = width * 3 / 2;
    if groups > whole { whole } else { whole / groups * groups }
}

fn is_kat(arch: &Value) -> bool {
    arch.as_str() == Some(Arch::Kat.name())
}

/// Keys of a KAT, given for another model.
fn refuse_kat_keys(given: &[Given]) -> Result<(), TrainError> {
    let arch = given.iter().rfind(|given| given.key.full_name() == "model.arch");
    if arch.is_some_and(|arch| is_kat(&arch.value)) {
        return Ok(());
    }
    match given.iter().find(|given| matches!(given.key.default, Fallback::Kat(_))) {
        Some(Given { key, value, origin, .. }) => {
            Err(key.error("no value where model.arch is not \"kat\"", shown(value), origin))
        }
        None => Ok(()),
    }
}

/// `model.from` stands for the whole model: it replaces what lower layers say of `[model]` and `[init]`, but for
/// `model.freeze`, which says what is trained of it.
///
/// # Errors
/// A replaced key in the layer of `model.from` or above it, which contradicts it.
fn drop_replaced_by_from(given: &mut Vec<Given>) -> Result<bool, TrainError> {
    let Some(from) = given.iter().rfind(|given| is_from(given.key)) else {
        return Ok(false);
    };
    let layer = from.layer;
    for Given { key, value, origin, .. } in given.iter().filter(|given| given.layer >= layer) {
        if is_replaced_by_from(key) {
            let expected = "no value beside model.from, which stands for all other keys of model and init";
            return Err(key.error(expected, shown(value), origin));
        }
    }
    given.retain(|given| !is_replaced_by_from(given.key));
    Ok(true)
}

fn is_from(key: &Key) -> bool {
    (key.section, key.name) == ("model", "from")
}

fn is_replaced_by_from(key: &Key) -> bool {
    ["model", "init"].contains(&key.section) && !is_from(key) && (key.section, key.name) != ("model", "freeze")
}
