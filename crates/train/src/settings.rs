//! The settings of a run: its run file, what the command line says over it, and the table of keys behind both.
//!
//! A relative path counts from the current directory, also in a run file.

mod given;
mod key;
mod keys;
mod layers;
mod presets;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::json;
use toml::Table;

use crate::error::TrainError;
use given::Given;
use keys::SECTIONS;
use layers::Values;

pub(crate) use given::read as read_toml;
pub(crate) use key::shown;

pub use keys::{
    Arch, DataSettings, InitSettings, InstrumentSettings, ModelSettings, OptimizerKind, OptimizerSettings, Order,
    Precision, PresetName, ScheduleKind, ScheduleSettings, Settings, TokenizerName, TrainSettings, TvrSettings,
    key_table,
};
pub use presets::{Preset, presets};

/// Where settings are from that come as a text.
const TEXT: &str = "settings";

/// Where settings are given, in rising precedence; below them stand the preset and the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A run file (`--config`).
    pub file: Option<PathBuf>,
    /// Settings as `section.key=value` (`--set`). The value is TOML; what is not counts as a string.
    pub set: Vec<String>,
    /// Settings that have a flag of their own.
    pub flags: Flags,
}

/// The settings that have a flag of their own, as the user gave them.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--preset`: `model.preset`.
    pub preset: Option<String>,
    /// `--data`: `data.train`; empty if it is not given.
    pub data: Vec<PathBuf>,
    /// `--valid`: `data.valid`; empty if it is not given.
    pub valid: Vec<PathBuf>,
    /// `--tokenizer`: `data.tokenizer`.
    pub tokenizer: Option<String>,
    /// `--text-field`: `data.text_field`.
    pub text_field: Option<String>,
    /// `--strict`: `data.strict`, if it is set.
    pub strict: bool,
    /// `--steps`: `train.steps`.
    pub steps: Option<i64>,
    /// `--seed`: `train.seed`.
    pub seed: Option<i64>,
}

impl Settings {
    /// The settings that `sources` give, with defaults for all others.
    ///
    /// A preset gives the model's shape, `train.seq_len` and `train.batch_size`. `model.from` replaces whatever lower
    /// layers say of `[model]` and `[init]`; beside it, `train.seq_len` and `train.batch_size` default to those of the
    /// default preset, and whether the model knows as many positions is checked where the model is read.
    ///
    /// # Errors
    /// A run file that cannot be read or is not TOML; an unknown section or key; a value of the wrong type or out of
    /// range, also where a higher layer replaces it; keys of `[model]` or `[init]` in the layer of `model.from` or
    /// above; a `seq_len` above `max_position_embeddings`; a step of 2^32 tokens or more.
    pub fn resolve(sources: &Sources) -> Result<Self, TrainError> {
        Self::of(given::all(sources)?)
    }

    /// The settings that tables of sections give, each with its origin and over the one before it.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub(crate) fn from_tables(tables: &[(String, Table)]) -> Result<Self, TrainError> {
        Self::of(given::tables(tables)?)
    }

    fn of(given: Vec<Given>) -> Result<Self, TrainError> {
        let settings = Values::of(given)?.into_settings()?;
        settings.check()?;
        Ok(settings)
    }

    /// The settings of a run file alone, such as the `run.toml` of a run folder.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn from_run_file(path: &Path) -> Result<Self, TrainError> {
        Self::resolve(&Sources { file: Some(path.to_owned()), ..Sources::default() })
    }

    /// The settings of a run that goes on, of its `run.toml`: with all sections, as [`Self::to_toml`] writes them. Those
    /// of a file that was emptied or cut would be defaults, and no run's. A key by itself may be missing: an engine that
    /// did not know it has written none.
    ///
    /// # Errors
    /// As [`Self::resolve`], or a section that is missing.
    pub fn of_run(path: &Path) -> Result<Self, TrainError> {
        let table = read_toml(path)?;
        let keys = |section: &str| table.get(section).and_then(toml::Value::as_table);
        let from = keys("model").is_some_and(|model| model.contains_key("from"));
        let whole = |section: &str| keys(section).is_some_and(|keys| !keys.is_empty()) || from && section == "init";
        match SECTIONS.iter().find(|section| !whole(section)) {
            None => Self::from_run_file(path),
            Some(section) => Err(TrainError::Setting {
                name: (*section).to_owned(),
                expected: "a section, as the run wrote it".to_owned(),
                got: "none".to_owned(),
                origin: format!("put {} back as it was", path.display()),
            }),
        }
    }

    /// The settings of a run file's text.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        let table = given::parse(text, Path::new(TEXT))?;
        Self::from_tables(&[(TEXT.to_owned(), table)])
    }

    /// The resolved run file: every key, paths absolute. Resolving it gives the same settings.
    ///
    /// # Errors
    /// A path that is not UTF-8, or an integer of 2^63 or more; [`Self::resolve`] gives neither.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(TrainError::settings_format)
    }

    /// Every key that has a value, as `section.key`, with the value on one line.
    ///
    /// # Errors
    /// As [`Self::to_toml`].
    pub fn entries(&self) -> Result<BTreeMap<String, String>, TrainError> {
        let sections = Table::try_from(self).map_err(TrainError::settings_format)?;
        let of = |(section, keys): (&String, &toml::Value)| -> Vec<_> {
            let keys = keys.as_table().into_iter().flatten();
            keys.map(|(name, value)| (format!("{section}.{name}"), shown(value))).collect()
        };
        Ok(sections.iter().flat_map(of).collect())
    }

    /// The model's shape in the form of Hugging Face's `config.json`; none if it is that of a checkpoint (`model.from`).
    pub fn model_config_json(&self) -> Option<serde_json::Value> {
        if self.model.from.is_some() {
            return None;
        }
        let mut config = json!({
            "model_type": self.model.arch,
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "torch_dtype": "float32",
        });
        // All others of the model's shape have Hugging Face's names.
        let shape = ModelSettings { preset: None, arch: None, ..self.model.clone() };
        for (name, value) in serde_json::to_value(shape).ok()?.as_object()? {
            if !value.is_null() && name != "freeze" {
                config[name] = value.clone();
            }
        }
        Some(config)
    }

    /// Checks what one key asks of another.
    fn check(&self) -> Result<(), TrainError> {
        let TrainSettings { batch_size, grad_accumulation, seq_len, .. } = self.train;
        if let Some(positions) = self.model.max_position_embeddings
            && seq_len > positions
        {
            return Err(TrainError::Setting {
                name: "train.seq_len".to_owned(),
                expected: format!("at most the {positions} of model.max_position_embeddings"),
                got: seq_len.to_string(),
                origin: "lower it, or raise model.max_position_embeddings".to_owned(),
            });
        }
        let stable_and_decay = self.train.steps.saturating_sub(self.schedule.warmup_steps);
        if self.schedule.kind == ScheduleKind::Wsd && self.schedule.decay_steps > stable_and_decay {
            return Err(TrainError::Setting {
                name: "schedule.decay_steps".to_owned(),
                expected: format!("at most the {stable_and_decay} steps after the warm-up"),
                got: self.schedule.decay_steps.to_string(),
                origin: "lower it, or schedule.warmup_steps".to_owned(),
            });
        }
        // Below 2^32, rows and tokens of a step can be counted in u32 on the device.
        let tokens = [batch_size, grad_accumulation, seq_len]
            .iter()
            .fold(1, |product: u128, &factor| product.saturating_mul(factor as u128));
        if tokens > u128::from(u32::MAX) {
            return Err(TrainError::Setting {
                name: "train.batch_size".to_owned(),
                expected: format!("at most {} tokens per step", u32::MAX),
                got: format!(
                    "{tokens}, batch_size {batch_size} * grad_accumulation {grad_accumulation} * seq_len {seq_len}"
                ),
                origin: "lower one of them".to_owned(),
            });
        }
        Ok(())
    }
}
