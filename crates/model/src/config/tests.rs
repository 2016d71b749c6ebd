#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

/// The required fields, with `changes` on top.
fn config_with(changes: Value) -> Result<ModelConfig, ModelError> {
    let mut config = json!({
        "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4,
        "vocab_size": 256,
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    ModelConfig::from_value(&config)
}

fn error_of(changes: Value) -> String {
    config_with(changes).unwrap_err().to_string()
}

#[test]
fn absent_and_null_fields_take_the_defaults_of_transformers() {
    let expected = ModelConfig {
        arch: Arch::Llama,
        vocab_size: 256,
        hidden_size: 64,
        intermediate_size: 176,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: 16,
        max_position_embeddings: 2048,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        tie_word_embeddings: false,
    };
    assert_eq!(config_with(json!({})).unwrap(), expected);
    let nulls = json!({
        "num_key_value_heads": null, "head_dim": null, "max_position_embeddings": null, "rms_norm_eps": null,
        "rope_theta": null, "rope_scaling": null, "rope_parameters": null, "tie_word_embeddings": null,
        "attention_bias": null, "mlp_bias": null, "hidden_act": null, "model_type": null,
        "quantization_config": null, "attention_dropout": null,
    });
    assert_eq!(config_with(nulls).unwrap(), expected);
}

#[test]
fn fields_that_do_not_change_the_computation_are_ignored() {
    let config = config_with(json!({
        "model_type": "llama", "torch_dtype": "bfloat16", "use_cache": true, "pretraining_tp": 4,
        "initializer_range": 0.02, "transformers_version": "4.40.0", "attention_dropout": 0.0,
        "eos_token_id": [1, 2], "nonsense": {"a": []},
    }));
    assert_eq!(config.unwrap(), config_with(json!({})).unwrap());
}

#[test]
fn rope_theta_is_found_where_transformers_finds_it() {
    for (changes, expected) in [
        (json!({"rope_theta": 500000}), 500_000.0),
        (json!({"rope_parameters": {"rope_theta": 20000.0}}), 20_000.0),
        (json!({"rope_parameters": {"rope_type": "default", "rope_theta": 3e4}}), 3e4),
        (json!({"rope_theta": 1e3, "rope_parameters": {"rope_theta": 2e3}}), 2e3),
        (json!({"rope_theta": 1e3, "rope_parameters": {"rope_type": "default"}}), 1e3),
        (json!({"rope_theta": 1e3, "rope_scaling": {"type": "default"}}), 1e3),
        (json!({"rope_theta": 1e3, "rope_scaling": {}}), 1e3),
        (json!({"rope_scaling": {}, "rope_parameters": {"rope_theta": 2e3}}), 2e3),
        (
            json!({"rope_scaling": {"rope_type": "default", "rope_theta": 7e3}, "rope_parameters": {"rope_theta": 2e3}}),
            7e3,
        ),
    ] {
        assert_eq!(config_with(changes.clone()).unwrap().rope_theta, expected, "{changes}");
    }
}

#[test]
fn unsupported_models_are_named_with_field_and_value() {
    for (changes, field, value) in [
        (json!({"model_type": "mistral"}), "model_type", "\"mistral\""),
        (json!({"model_type": 5}), "model_type", "5"),
        (json!({"hidden_act": "gelu"}), "hidden_act", "\"gelu\""),
        (json!({"hidden_act": ["silu"]}), "hidden_act", "[\"silu\"]"),
        (json!({"attention_bias": true}), "attention_bias", "true"),
        (json!({"attention_bias": 0}), "attention_bias", "0"),
        (json!({"mlp_bias": true}), "mlp_bias", "true"),
        (json!({"mlp_bias": "false"}), "mlp_bias", "\"false\""),
        (json!({"attention_dropout": 0.1}), "attention_dropout", "0.1"),
        (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor", "0.5"),
        (json!({"quantization_config": {"bits": 4}}), "quantization_config", "{\"bits\":4}"),
        (json!({"rope_scaling": {"type": "linear", "factor": 2.0}}), "rope_scaling.type", "\"linear\""),
        (json!({"rope_scaling": {"rope_type": "llama3"}}), "rope_scaling.rope_type", "\"llama3\""),
        (json!({"rope_scaling": {"factor": 2.0}}), "rope_scaling.factor", "2.0"),
        (json!({"rope_scaling": {"type": 1}}), "rope_scaling.type", "1"),
        (json!({"rope_parameters": {"rope_type": "yarn"}}), "rope_parameters.rope_type", "\"yarn\""),
        (
            json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}}),
            "partial_rotary_factor",
            "0.25",
        ),
        (
            json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}),
            "rope_parameters",
            "{\"rope_type\":\"default\"}",
        ),
    ] {
        let error = error_of(changes.clone());
        assert!(error.starts_with(&format!("{field} = {value} is not supported")), "{changes}: {error}");
    }
}

#[test]
fn impossible_values_are_named_with_field_and_value() {
    for (changes, field, got) in [
        (json!({"hidden_size": 0}), "hidden_size", "0"),
        (json!({"hidden_size": null}), "hidden_size", "nothing"),
        (json!({"vocab_size": -1}), "vocab_size", "-1"),
        (json!({"vocab_size": 256.0}), "vocab_size", "256.0"),
        (json!({"intermediate_size": "176"}), "intermediate_size", "\"176\""),
        (json!({"intermediate_size": true}), "intermediate_size", "true"),
        (json!({"num_hidden_layers": 1e300}), "num_hidden_layers", "1e+300"),
        (json!({"num_hidden_layers": 70_000}), "num_hidden_layers", "70000"),
        (json!({"num_hidden_layers": u64::MAX}), "num_hidden_layers", "18446744073709551615"),
        (json!({"num_key_value_heads": 3}), "num_key_value_heads", "3"),
        (json!({"num_key_value_heads": 8}), "num_key_value_heads", "8"),
        (json!({"num_attention_heads": 3}), "hidden_size", "64"),
        (json!({"head_dim": 7}), "head_dim", "7"),
        (json!({"hidden_size": 20}), "head_dim", "5"),
        (json!({"head_dim": 0}), "head_dim", "0"),
        (json!({"head_dim": 2_000_000_000}), "head_dim", "2000000000"),
        (json!({"max_position_embeddings": 0}), "max_position_embeddings", "0"),
        (json!({"rms_norm_eps": 0.0}), "rms_norm_eps", "0.0"),
        (json!({"rms_norm_eps": -1e-6}), "rms_norm_eps", "-1e-6"),
        (json!({"rms_norm_eps": "tiny"}), "rms_norm_eps", "\"tiny\""),
        (json!({"rope_theta": -1}), "rope_theta", "-1.0"),
        (json!({"rope_theta": 1e60}), "rope_theta", "1e60"),
        (json!({"rope_parameters": {"rope_theta": "x"}}), "rope_parameters.rope_theta", "\"x\""),
        (json!({"rope_parameters": [1]}), "rope_parameters", "[1]"),
        (json!({"rope_scaling": "linear"}), "rope_scaling", "\"linear\""),
        (json!({"tie_word_embeddings": 1}), "tie_word_embeddings", "1"),
        (
            json!({"hidden_size": 2_000_000_000, "intermediate_size": 2_000_000_000, "num_hidden_layers": 60_000}),
            "hidden_size",
            "2000000000",
        ),
    ] {
        let error = error_of(changes.clone());
        assert!(error.starts_with(&format!("{field}: expected ")), "{changes}: {error}");
        assert!(error.contains(&format!(", got {got} (")), "{changes}: {error}");
    }
}

#[test]
fn head_dim_may_differ_from_hidden_over_heads() {
    let config = config_with(json!({"num_attention_heads": 3, "head_dim": 24})).unwrap();
    assert_eq!((config.head_dim, config.num_key_value_heads), (24, 3));
}

#[test]
fn text_that_is_not_an_object_is_one_line() {
    for text in ["", "{", "[]", "null", "{\"hidden_size\": 1e999}", "\u{1}", "\"a\\nb\""] {
        let error = ModelConfig::from_json(text).unwrap_err().to_string();
        assert!(error.starts_with("model config: expected a JSON object, got "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn long_values_are_cut_in_errors() {
    let error = error_of(json!({"hidden_act": "\u{e9}".repeat(10_000)}));
    assert!(error.len() < 300, "{error}");
}

#[test]
fn written_configs_read_back() {
    let config = ModelConfig {
        arch: Arch::Llama,
        vocab_size: 301,
        hidden_size: 48,
        intermediate_size: 100,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 10,
        max_position_embeddings: 99,
        rms_norm_eps: 1e-5,
        rope_theta: 123_456.75,
        tie_word_embeddings: true,
    };
    let text = config.to_json();
    assert_eq!(ModelConfig::from_json(&text).unwrap(), config);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["architectures"], json!(["LlamaForCausalLM"]));
    assert_eq!(value["model_type"], "llama");
    assert_eq!(value["dtype"], "float32");
    assert_eq!(value["rope_parameters"]["rope_theta"], value["rope_theta"]);

    let rational = Rational {
        groups: 4,
        form: RationalForm::SumAbs,
        init: [RationalSet::Relu, RationalSet::Tanh],
        shared_numerator: false,
    };
    let kat = ModelConfig { arch: Arch::Kat(rational), ..config };
    let text = kat.to_json();
    assert_eq!(ModelConfig::from_json(&text).unwrap(), kat);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["architectures"], &value["model_type"]), (&json!(["KatForCausalLM"]), &json!("kat")));
    assert_eq!((&value["rational_groups"], &value["rational_form"]), (&json!(4), &json!("sum_abs")));
    assert_eq!(value["rational_init"], json!(["relu", "tanh"]));
}

/// A KAT with `changes`.
fn kat_with(changes: Value) -> Result<ModelConfig, ModelError> {
    let mut fields = json!({ "model_type": "kat" });
    for (key, value) in changes.as_object().unwrap() {
        fields[key] = value.clone();
    }
    config_with(fields)
}

#[test]
fn a_kat_has_the_defaults_of_the_paper() {
    let expected = Rational {
        groups: 8,
        form: RationalForm::AbsSum,
        init: [RationalSet::Identity, RationalSet::Swish],
        shared_numerator: true,
    };
    assert_eq!(kat_with(json!({})).unwrap().arch, Arch::Kat(expected));
    assert_eq!(kat_with(json!({"rational_groups": 16})).unwrap().arch, Arch::Kat(Rational { groups: 16, ..expected }));
}

#[test]
fn impossible_rationals_are_named_with_field_and_value() {
    for (changes, message) in [
        (json!({"rational_groups": 5}), "rational_groups: expected a divisor of hidden_size 64, got 5 ("),
        (json!({"rational_groups": 32}), "rational_groups: expected a divisor of intermediate_size 176, got 32 ("),
        (json!({"rational_groups": 0}), "rational_groups: expected an integer from 1"),
        (json!({"rational_form": "pade"}), "rational_form: expected one of abs_sum, sum_abs, got \"pade\" ("),
        (json!({"rational_init": ["swish"]}), "rational_init: expected two names, got [\"swish\"] ("),
        (json!({"rational_init": ["swish", "mish"]}), "rational_init: expected one of identity, swish, "),
        (
            json!({"rational_init": ["identity", "gelu_old"]}),
            "rational_init: expected sets fitted for the form abs_sum",
        ),
        (
            json!({"rational_init": ["gelu", "swish"], "rational_form": "sum_abs"}),
            "rational_init: expected sets fitted for the form sum_abs (identity, swish, gelu_old, relu, leaky_relu, \
             tanh, sigmoid), got gelu (",
        ),
    ] {
        let error = kat_with(changes.clone()).unwrap_err().to_string();
        assert!(error.starts_with(message), "{changes}: {error}");
    }
}
