//! The table of a model's parameters: names, shapes and kinds.
//!
//! The names are Hugging Face's; a parameter's name is also its key in a checkpoint and its label on the device.

use crate::config::LlamaConfig;

/// What a parameter is for. Weight decay and initialisation derive from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// The token embedding, also the head of a tied model.
    Embedding,
    /// A projection inside a layer.
    Matrix {
        /// The layer, from 0.
        layer: usize,
    },
    /// The weight of an RMSNorm.
    Norm,
    /// The projection onto the vocabulary of an untied model.
    Head,
}

/// One parameter of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Hugging Face's name.
    pub name: String,
    /// Extents, outermost first: `[C]` of a norm, `[out, in]` of a projection, `[V, C]` of an embedding or head.
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

    /// Whether weight decay applies: to every matrix, embeddings included, and to no norm.
    #[must_use]
    pub fn decayed(&self) -> bool {
        self.kind != ParameterKind::Norm
    }
}

impl LlamaConfig {
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

    /// Every parameter, in the order of Hugging Face's `LlamaForCausalLM`. A tied model has no `lm_head.weight`.
    ///
    /// The config is a possible one, see [`LlamaConfig::validate`].
    #[must_use]
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        let (c, v) = (self.hidden_size, self.vocab_size);
        let spec = |name: &str, shape: &[usize], kind| ParameterSpec {
            name: format!("{name}.weight"),
            shape: shape.to_vec(),
            kind,
        };
        let mut specs = vec![spec("model.embed_tokens", &[v, c], ParameterKind::Embedding)];
        for layer in 0..self.num_hidden_layers {
            specs.extend(self.layer_shapes().into_iter().map(|(name, shape)| {
                let kind = match shape.len() {
                    1 => ParameterKind::Norm,
                    _ => ParameterKind::Matrix { layer },
                };
                spec(&format!("model.layers.{layer}.{name}"), &shape, kind)
            }));
        }
        specs.push(spec("model.norm", &[c], ParameterKind::Norm));
        if !self.tie_word_embeddings {
            specs.push(spec("lm_head", &[v, c], ParameterKind::Head));
        }
        specs
    }

    /// The number of trainable numbers; a tied head counts once.
    ///
    /// The config is a possible one, see [`LlamaConfig::validate`].
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.checked_parameter_count().unwrap_or(u64::MAX)
    }

    /// The number of parameters, or `None` where it exceeds 64 bits.
    pub(crate) fn checked_parameter_count(&self) -> Option<u64> {
        let count = |shape: &[usize]| shape.iter().try_fold(1_u64, |count, &extent| count.checked_mul(extent as u64));
        let (c, v) = (self.hidden_size, self.vocab_size);
        let mut layer = 0_u64;
        for (_, shape) in self.layer_shapes() {
            layer = layer.checked_add(count(&shape)?)?;
        }
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        layer.checked_mul(self.num_hidden_layers as u64)?.checked_add(count(&[tables, v, c])?)?.checked_add(c as u64)
    }

    fn layer_shapes(&self) -> [(&'static str, Vec<usize>); 9] {
        let (c, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.query_width(), self.key_value_width());
        [
            ("self_attn.q_proj", vec![q, c]),
            ("self_attn.k_proj", vec![kv, c]),
            ("self_attn.v_proj", vec![kv, c]),
            ("self_attn.o_proj", vec![c, q]),
            ("mlp.gate_proj", vec![f, c]),
            ("mlp.up_proj", vec![f, c]),
            ("mlp.down_proj", vec![c, f]),
            ("input_layernorm", vec![c]),
            ("post_attention_layernorm", vec![c]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(tie_word_embeddings: bool) -> LlamaConfig {
        LlamaConfig {
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
            assert_eq!(spec.decayed(), !norm, "{}", spec.name);
            if let ParameterKind::Matrix { layer } = spec.kind {
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
}
