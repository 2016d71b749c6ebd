//! The table of a model's parameters: names, shapes and kinds.
//!
//! The names are Hugging Face's; a parameter's name is also its key in a checkpoint and its label on the device.

use crate::config::{Arch, ModelConfig};
use crate::{kat, llama, rational::RationalSet};

/// What a parameter is for. Weight decay, initialisation and variance control derive from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParameterKind {
    /// The token embedding, also the head of a tied model.
    Embedding,
    /// A projection inside a layer.
    Matrix {
        /// The layer, from 0.
        layer: usize,
        /// Whether it writes into the residual stream.
        into_stream: bool,
        /// 1 / E F(z)^2 of the function F in front of it: times 1 / fan-in, the variance that keeps the variance.
        gain: f64,
    },
    /// Numerators of a rational activation.
    Numerator(RationalSet),
    /// Denominators of a rational activation.
    Denominator(RationalSet),
    /// The weight of an RMSNorm.
    Norm,
    /// The projection onto the vocabulary of an untied model.
    Head,
}

/// One parameter of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    /// Hugging Face's name.
    pub name: String,
    /// Extents, outermost first: `[C]` of a norm, `[out, in]` of a projection, `[V, C]` of an embedding or head,
    /// `[1, 6]` (or `[G, 6]`) of a numerator, `[G, 4]` of a denominator.
    pub shape: Vec<usize>,
    /// What it is for.
    pub kind: ParameterKind,
}

impl ParameterSpec {
    /// The number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it is a weight matrix: a projection, the embedding or the head. Weight decay applies to these alone.
    #[must_use]
    pub fn is_matrix(&self) -> bool {
        matches!(self.kind, ParameterKind::Embedding | ParameterKind::Head | ParameterKind::Matrix { .. })
    }

    /// The layer, from 0, of a projection inside a layer: what initialisation by layer index and TVR apply to.
    #[must_use]
    pub fn layer(&self) -> Option<usize> {
        if let ParameterKind::Matrix { layer, .. } = self.kind { Some(layer) } else { None }
    }
}

/// A parameter of a layer: its name behind `model.layers.N.`, shape and kind.
pub(crate) type LayerParameter = (&'static str, Vec<usize>, ParameterKind);

impl ModelConfig {
    /// The width of all query heads together, `H * D`.
    #[must_use]
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// The width of all key (or value) heads together, `KV * D`.
    #[must_use]
    pub fn key_value_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Every parameter; a LLaMA's in the order of Hugging Face's `LlamaForCausalLM`. A tied model has no
    /// `lm_head.weight`.
    ///
    /// The config is a possible one, see [`ModelConfig::validate`].
    #[must_use]
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        let (c, v) = (self.hidden_size, self.vocab_size);
        let spec =
            |name: &str, shape: &[usize], kind| ParameterSpec { name: name.to_owned(), shape: shape.to_vec(), kind };
        let mut specs = vec![spec("model.embed_tokens.weight", &[v, c], ParameterKind::Embedding)];
        for layer in 0..self.num_hidden_layers {
            let parameters = self.layer_parameters(layer).into_iter();
            specs.extend(
                parameters.map(|(name, shape, kind)| spec(&format!("model.layers.{layer}.{name}"), &shape, kind)),
            );
        }
        specs.push(spec("model.norm.weight", &[c], ParameterKind::Norm));
        if !self.tie_word_embeddings {
            specs.push(spec("lm_head.weight", &[v, c], ParameterKind::Head));
        }
        specs
    }

    /// The number of trainable numbers; a tied head counts once.
    ///
    /// The config is a possible one, see [`ModelConfig::validate`].
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.checked_parameter_count().unwrap_or(u64::MAX)
    }

    /// The number of parameters, or `None` where it exceeds 64 bits.
    pub(crate) fn checked_parameter_count(&self) -> Option<u64> {
        let count = |shape: &[usize]| shape.iter().try_fold(1_u64, |count, &extent| count.checked_mul(extent as u64));
        let (c, v) = (self.hidden_size, self.vocab_size);
        let mut layer = 0_u64;
        for (_, shape, _) in self.layer_parameters(0) {
            layer = layer.checked_add(count(&shape)?)?;
        }
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        layer.checked_mul(self.num_hidden_layers as u64)?.checked_add(count(&[tables, v, c])?)?.checked_add(c as u64)
    }

    fn layer_parameters(&self, layer: usize) -> Vec<LayerParameter> {
        let c = self.hidden_size;
        let (q, kv) = (self.query_width(), self.key_value_width());
        let matrix = |into_stream| ParameterKind::Matrix { layer, into_stream, gain: 1.0 };
        let mut parameters = vec![
            ("self_attn.q_proj.weight", vec![q, c], matrix(false)),
            ("self_attn.k_proj.weight", vec![kv, c], matrix(false)),
            ("self_attn.v_proj.weight", vec![kv, c], matrix(false)),
            ("self_attn.o_proj.weight", vec![c, q], matrix(true)),
        ];
        parameters.extend(match &self.arch {
            Arch::Llama => llama::mlp_parameters(self, layer),
            Arch::Kat(rational) => kat::mlp_parameters(self, rational, layer),
        });
        parameters.extend(
            ["input_layernorm.weight", "post_attention_layernorm.weight"]
                .map(|name| (name, vec![c], ParameterKind::Norm)),
        );
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rational::{Rational, RationalForm};

    fn config(tie_word_embeddings: bool) -> ModelConfig {
        ModelConfig {
            arch: Arch::Llama,
            vocab_size: 11,
            hidden_size: 8,
            intermediate_size: 10,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 8,
            max_position_embeddings: 16,
            rms_norm_eps: 1e-6,
            rope_theta: 1e4,
            tie_word_embeddings,
        }
    }

    /// `[(n, tuple(p.shape)) for n, p in LlamaForCausalLM(config).named_parameters()]` of transformers 5.23,
    /// of the second layer and what follows it.
    const SECOND_LAYER_AND_REST: [(&str, &[usize]); 11] = [
        ("model.layers.1.self_attn.q_proj.weight", &[32, 8]),
        ("model.layers.1.self_attn.k_proj.weight", &[16, 8]),
        ("model.layers.1.self_attn.v_proj.weight", &[16, 8]),
        ("model.layers.1.self_attn.o_proj.weight", &[8, 32]),
        ("model.layers.1.mlp.gate_proj.weight", &[10, 8]),
        ("model.layers.1.mlp.up_proj.weight", &[10, 8]),
        ("model.layers.1.mlp.down_proj.weight", &[8, 10]),
        ("model.layers.1.input_layernorm.weight", &[8]),
        ("model.layers.1.post_attention_layernorm.weight", &[8]),
        ("model.norm.weight", &[8]),
        ("lm_head.weight", &[11, 8]),
    ];

    #[test]
    fn names_shapes_and_order_are_those_of_transformers() {
        let specs = config(false).parameters();
        assert_eq!(specs.len(), 1 + 2 * 9 + 2);
        assert_eq!(specs[0].name, "model.embed_tokens.weight");
        assert_eq!(specs[0].shape, [11, 8]);
        for (spec, (name, shape)) in specs[10..].iter().zip(SECOND_LAYER_AND_REST) {
            assert_eq!((spec.name.as_str(), spec.shape.as_slice()), (name, shape));
        }
        let tied = config(true).parameters();
        assert_eq!(tied, specs[..specs.len() - 1]);
    }

    #[test]
    fn kinds_and_decay() {
        for spec in config(false).parameters() {
            let norm = spec.name.contains("norm");
            assert_eq!(spec.kind == ParameterKind::Norm, norm, "{}", spec.name);
            assert_eq!(spec.is_matrix(), !norm, "{}", spec.name);
            if let Some(layer) = spec.layer() {
                let scope = format!("model.layers.{layer}.");
                assert!(spec.name.starts_with(&scope), "{}", spec.name);
            }
        }
    }

    #[test]
    fn counts_are_those_of_transformers() {
        // sum(p.numel() for p in model.parameters()) of transformers 5.23.
        assert_eq!(config(false).parameter_count(), 2232);
        assert_eq!(config(true).parameter_count(), 2144);
        for config in [config(false), config(true)] {
            let listed: usize = config.parameters().iter().map(ParameterSpec::elements).sum();
            assert_eq!(listed as u64, config.parameter_count());
        }
    }

    /// Names and shapes of the issue of KAT, of its second layer's MLP.
    #[test]
    fn a_kat_has_rationals_before_its_linears() {
        let rational = |shared_numerator| Rational {
            groups: 2,
            form: RationalForm::AbsSum,
            init: [RationalSet::Identity, RationalSet::Swish],
            shared_numerator,
        };
        for (shared, numerators) in [(true, 1), (false, 2)] {
            let kat = ModelConfig { arch: Arch::Kat(rational(shared)), ..config(false) };
            let expected: [(&str, [usize; 2]); 6] = [
                ("model.layers.1.mlp.act1.weight_numerator", [numerators, 6]),
                ("model.layers.1.mlp.act1.weight_denominator", [2, 4]),
                ("model.layers.1.mlp.fc1.weight", [10, 8]),
                ("model.layers.1.mlp.act2.weight_numerator", [numerators, 6]),
                ("model.layers.1.mlp.act2.weight_denominator", [2, 4]),
                ("model.layers.1.mlp.fc2.weight", [8, 10]),
            ];
            let specs = kat.parameters();
            let mlp: Vec<_> = specs.iter().filter(|spec| spec.name.contains("layers.1.mlp")).collect();
            assert_eq!(mlp.len(), expected.len());
            for (spec, (name, shape)) in mlp.into_iter().zip(expected) {
                assert_eq!((spec.name.as_str(), spec.shape.as_slice()), (name, shape.as_slice()));
                assert_eq!((spec.is_matrix(), spec.layer().is_some()), (name.contains("fc"), name.contains("fc")));
            }
            let listed: usize = specs.iter().map(ParameterSpec::elements).sum();
            assert_eq!(listed as u64, kat.parameter_count());
        }
    }
}
