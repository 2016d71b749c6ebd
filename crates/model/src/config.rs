//! The shape of a model, read from and written to Hugging Face's `config.json`.
//!
//! A [`ModelConfig`] that came out of [`ModelConfig::from_json`] or passed [`ModelConfig::validate`] is possible: its
//! extents are non-zero, its heads divide, and the number of its parameters does not overflow.
//! Fields, defaults and precedences are those of `LlamaConfig` in transformers; keys that do not change the
//! computation are ignored, keys that ask for another computation are errors.

use serde_json::{Map, Value, json};

use crate::error::ModelError;
use crate::rational::{Rational, RationalForm, RationalSet};

/// The largest extent: WGSL, safetensors readers and BLAS all index with 31 bits somewhere.
pub const MAX_EXTENT: usize = i32::MAX as usize;
/// The largest number of layers; bounds the length of the parameter table.
pub const MAX_LAYERS: usize = 1 << 16;
/// The largest number of parameters; sixteen bytes for each still fit an `i64`.
pub const MAX_PARAMETERS: u64 = 1 << 48;

/// Which model: what its MLPs are. All else is LLaMA's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// LLaMA: SwiGLU.
    Llama,
    /// KAT: group-rational activations, each before its linear.
    Kat(Rational),
}

/// The hyper-parameters of a model that shape its computation.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Which model.
    pub arch: Arch,
    /// `V`, rows of the embedding.
    pub vocab_size: usize,
    /// `C`, width of the residual stream.
    pub hidden_size: usize,
    /// `F`, width of the MLP.
    pub intermediate_size: usize,
    /// `L`.
    pub num_hidden_layers: usize,
    /// `H`, query heads.
    pub num_attention_heads: usize,
    /// `KV`, key/value heads; divides `H`.
    pub num_key_value_heads: usize,
    /// `D`, size of one head; even, need not be `C / H`.
    pub head_dim: usize,
    /// The longest sequence the model is meant for.
    pub max_position_embeddings: usize,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the head shares the embedding's weights.
    pub tie_word_embeddings: bool,
}

impl ModelConfig {
    /// Parses the text of a `config.json`.
    ///
    /// # Errors
    /// Text that is not a JSON object; a field that is missing, of the wrong type, impossible or unsupported.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        let value: Value = serde_json::from_str(text)
            .map_err(|e| ModelError::NotAnObject { got: format!("text that is not JSON: {e}") })?;
        Self::from_value(&value)
    }

    /// Reads the fields of a parsed `config.json`. A `null` is an absent field.
    ///
    /// # Errors
    /// As [`ModelConfig::from_json`].
    pub fn from_value(value: &Value) -> Result<Self, ModelError> {
        let object = value.as_object().ok_or_else(|| ModelError::NotAnObject { got: excerpt(value) })?;
        let fields = Fields(object);
        fields.refuse_unsupported()?;
        let hidden_size = fields.required_extent("hidden_size")?;
        let num_attention_heads = fields.required_extent("num_attention_heads")?;
        let head_dim = match fields.extent("head_dim")? {
            Some(head_dim) => head_dim,
            None if hidden_size.is_multiple_of(num_attention_heads) => hidden_size / num_attention_heads,
            None => {
                return Err(invalid(
                    "hidden_size",
                    format!("a multiple of num_attention_heads {num_attention_heads}, or head_dim given"),
                    hidden_size,
                ));
            }
        };
        let config = Self {
            arch: fields.arch()?,
            vocab_size: fields.required_extent("vocab_size")?,
            hidden_size,
            intermediate_size: fields.required_extent("intermediate_size")?,
            num_hidden_layers: fields.required_extent("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: fields.extent("num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim,
            max_position_embeddings: fields.extent("max_position_embeddings")?.unwrap_or(2048),
            rms_norm_eps: fields.number("rms_norm_eps", "rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta: fields.rope_theta()?,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        };
        config.validate()?;
        Ok(config)
    }

    /// Checks what the types alone do not say.
    ///
    /// # Errors
    /// The first field whose value is impossible, alone or beside the others.
    pub fn validate(&self) -> Result<(), ModelError> {
        for (field, extent) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if !(1..=MAX_EXTENT).contains(&extent) {
                return Err(invalid(field, expected_extent(), extent));
            }
        }
        if self.num_hidden_layers > MAX_LAYERS {
            let expected = format!("at most {MAX_LAYERS}");
            return Err(invalid("num_hidden_layers", expected, self.num_hidden_layers));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let expected = format!("a divisor of num_attention_heads {}", self.num_attention_heads);
            return Err(invalid("num_key_value_heads", expected, self.num_key_value_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            let expected = "an even number (RoPE rotates pairs)".to_owned();
            return Err(invalid("head_dim", expected, self.head_dim));
        }
        if !matches!(self.num_attention_heads.checked_mul(self.head_dim), Some(width) if width <= MAX_EXTENT) {
            let expected = format!(
                "at most {} for num_attention_heads {}",
                MAX_EXTENT / self.num_attention_heads,
                self.num_attention_heads
            );
            return Err(invalid("head_dim", expected, self.head_dim));
        }
        if let Arch::Kat(rational) = &self.arch {
            self.validate_rational(rational)?;
        }
        for (field, number) in [("rms_norm_eps", self.rms_norm_eps), ("rope_theta", self.rope_theta)] {
            // Kernels take both as f32, where a tiny number would be zero and a huge one infinite.
            if !(number as f32 > 0.0 && (number as f32).is_finite()) {
                let got = format!("{number:?}");
                return Err(invalid(field, "a positive f32".to_owned(), got));
            }
        }
        match self.checked_parameter_count() {
            Some(count) if count <= MAX_PARAMETERS => Ok(()),
            _ => Err(invalid(
                "hidden_size",
                format!("sizes that make at most {MAX_PARAMETERS} parameters"),
                self.hidden_size,
            )),
        }
    }

    fn validate_rational(&self, rational: &Rational) -> Result<(), ModelError> {
        let groups = rational.groups;
        if !(1..=MAX_EXTENT).contains(&groups) {
            return Err(invalid("rational_groups", expected_extent(), groups));
        }
        for (field, width) in [("hidden_size", self.hidden_size), ("intermediate_size", self.intermediate_size)] {
            if !width.is_multiple_of(groups) {
                return Err(invalid("rational_groups", format!("a divisor of {field} {width}"), groups));
            }
        }
        for set in rational.init {
            if !set.fits(rational.form) {
                let fitting = RationalSet::ALL.iter().filter(|set| set.fits(rational.form));
                let fitting = fitting.map(|set| set.name()).collect::<Vec<_>>().join(", ");
                let expected = format!("sets fitted for the form {} ({fitting})", rational.form.name());
                return Err(invalid("rational_init", expected, set.name()));
            }
        }
        Ok(())
    }

    /// The text of a `config.json`; that of a LLaMA is one that transformers loads as `LlamaForCausalLM`.
    ///
    /// The rotary base stands twice: transformers 5 reads `rope_parameters`, earlier ones the top level.
    /// The token ids are null because `generate` would otherwise stop at LLaMA's own end token, 2.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (architecture, model_type) = match self.arch {
            Arch::Llama => ("LlamaForCausalLM", "llama"),
            Arch::Kat(_) => ("KatForCausalLM", "kat"),
        };
        let mut config = json!({
            "architectures": [architecture],
            "model_type": model_type,
            "dtype": "float32",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": false,
            "attention_dropout": 0.0,
            "mlp_bias": false,
            "bos_token_id": null,
            "eos_token_id": null,
            "pad_token_id": null,
        });
        if let Arch::Kat(rational) = &self.arch {
            config["rational_groups"] = json!(rational.groups);
            config["rational_form"] = json!(rational.form);
            config["rational_init"] = json!(rational.init);
            config["rational_shared_numerator"] = json!(rational.shared_numerator);
        }
        format!("{config:#}\n")
    }
}

/// The fields of a `config.json`; a `null` is absent everywhere.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn extent(&self, field: &'static str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(extent @ 1..=MAX_EXTENT) => Ok(Some(extent)),
            _ => Err(invalid(field, expected_extent(), excerpt(value))),
        }
    }

    fn required_extent(&self, field: &'static str) -> Result<usize, ModelError> {
        self.extent(field)?.ok_or_else(|| invalid(field, expected_extent(), "nothing"))
    }

    /// The number under `key`, called `field` in errors.
    fn number(&self, key: &str, field: &'static str) -> Result<Option<f64>, ModelError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(invalid(field, "a number".to_owned(), excerpt(value))),
        }
    }

    fn flag(&self, field: &'static str) -> Result<Option<bool>, ModelError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        match value.as_bool() {
            Some(flag) => Ok(Some(flag)),
            None => Err(invalid(field, "true or false".to_owned(), excerpt(value))),
        }
    }

    /// What a `model_type` of "kat" adds to LLaMA's fields.
    fn arch(&self) -> Result<Arch, ModelError> {
        if self.get("model_type").is_none_or(|value| value == "llama") {
            return Ok(Arch::Llama);
        }
        let init = match self.get("rational_init") {
            None => [RationalSet::Identity, RationalSet::Swish],
            Some(Value::Array(sets)) if sets.len() == 2 => {
                let set = |value| chosen("rational_init", value, RationalSet::named, RationalSet::NAMES);
                [set(&sets[0])?, set(&sets[1])?]
            }
            Some(value) => return Err(invalid("rational_init", "two names".to_owned(), excerpt(value))),
        };
        Ok(Arch::Kat(Rational {
            groups: self.extent("rational_groups")?.unwrap_or(8),
            form: match self.get("rational_form") {
                None => RationalForm::AbsSum,
                Some(form) => chosen("rational_form", form, RationalForm::named, RationalForm::NAMES)?,
            },
            init,
            shared_numerator: self.flag("rational_shared_numerator")?.unwrap_or(true),
        }))
    }

    fn object(&self, field: &'static str) -> Result<Option<Fields<'_>>, ModelError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields(object))),
            Some(value) => Err(invalid(field, "an object".to_owned(), excerpt(value))),
        }
    }

    /// Fields with one supported value. Dropout is here because it would change training.
    fn refuse_unsupported(&self) -> Result<(), ModelError> {
        type Supported = fn(&Value) -> bool;
        let supported: [(_, Supported, _); 7] = [
            ("model_type", |v| v == "llama" || v == "kat", "\"llama\" or \"kat\""),
            ("hidden_act", |v| v == "silu", "\"silu\""),
            ("attention_bias", |v| v == false, "false"),
            ("mlp_bias", |v| v == false, "false"),
            ("attention_dropout", |v| v.as_f64() == Some(0.0), "0"),
            ("partial_rotary_factor", |v| v.as_f64() == Some(1.0), "1"),
            ("quantization_config", |_| false, "null"),
        ];
        for (field, is_supported, expected) in supported {
            if let Some(value) = self.get(field).filter(|value| !is_supported(value)) {
                return Err(unsupported(field, value, expected));
            }
        }
        Ok(())
    }

    /// The rotary base. `rope_scaling`, the former name of `rope_parameters`, goes before it, and what stands in
    /// either goes before the top level.
    fn rope_theta(&self) -> Result<f64, ModelError> {
        let scaling = self.object("rope_scaling")?;
        if let Some(scaling) = &scaling {
            scaling.refuse_rope_type(["rope_scaling.rope_type", "rope_scaling.type"])?;
            let has_type = scaling.get("rope_type").or(scaling.get("type")).is_some();
            if let Some(factor) = scaling.get("factor").filter(|_| !has_type) {
                return Err(unsupported("rope_scaling.factor", factor, "null"));
            }
        }
        let parameters = self.object("rope_parameters")?;
        if let Some(parameters) = &parameters {
            parameters.refuse_rope_type(["rope_parameters.rope_type", "rope_parameters.type"])?;
            if let Some(nested) = parameters.0.values().find(|value| value.is_object()) {
                return Err(unsupported("rope_parameters", nested, "one set of parameters for all layers"));
            }
        }
        let chosen = match scaling.filter(|fields| !fields.0.is_empty()) {
            Some(scaling) => scaling.number("rope_theta", "rope_scaling.rope_theta")?,
            None => match parameters {
                Some(parameters) => parameters.number("rope_theta", "rope_parameters.rope_theta")?,
                None => None,
            },
        };
        let top = self.number("rope_theta", "rope_theta")?;
        Ok(chosen.or(top).unwrap_or(10_000.0))
    }

    /// Refuses scaled and partial rotations; `names` are what `rope_type` and `type` are called in errors.
    fn refuse_rope_type(&self, names: [&'static str; 2]) -> Result<(), ModelError> {
        for (field, key) in names.into_iter().zip(["rope_type", "type"]) {
            if let Some(value) = self.get(key) {
                if value != "default" {
                    return Err(unsupported(field, value, "\"default\""));
                }
                break;
            }
        }
        match self.get("partial_rotary_factor") {
            Some(value) if value.as_f64() != Some(1.0) => Err(unsupported("partial_rotary_factor", value, "1")),
            _ => Ok(()),
        }
    }
}

fn chosen<T>(
    field: &'static str,
    value: &Value,
    named: fn(&str) -> Option<T>,
    names: &[&str],
) -> Result<T, ModelError> {
    let found = value.as_str().and_then(named);
    found.ok_or_else(|| invalid(field, format!("one of {}", names.join(", ")), excerpt(value)))
}

fn expected_extent() -> String {
    format!("an integer from 1 to {MAX_EXTENT}")
}

fn invalid(field: &'static str, expected: String, got: impl ToString) -> ModelError {
    ModelError::Config { field, expected, got: got.to_string() }
}

fn unsupported(field: &'static str, value: &Value, expected: &'static str) -> ModelError {
    ModelError::Unsupported { field, value: excerpt(value), expected }
}

/// A value as JSON, cut to fit an error line.
fn excerpt(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
