//! The presets: a model's shape with the sequence length and batch that go with it.

use super::PresetName;

/// A row of the table of presets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// The name that `model.preset` accepts.
    pub name: PresetName,
    /// Channels, C.
    pub hidden_size: u32,
    /// Width of the MLP, F.
    pub intermediate_size: u32,
    /// Layers, L.
    pub num_hidden_layers: u32,
    /// Query heads, H.
    pub num_attention_heads: u32,
    /// Key/value heads, KV.
    pub num_key_value_heads: u32,
    /// Vocabulary, V.
    pub vocab_size: u32,
    /// Tokens per sequence, T; the model has as many positions.
    pub seq_len: u32,
    /// Sequences per micro-batch, B.
    pub batch_size: u32,
}

/// Every preset, from the smallest.
pub fn presets() -> impl Iterator<Item = Preset> {
    PresetName::ALL.iter().map(|&name| Preset::of(name))
}

impl Preset {
    /// The preset of this name.
    pub fn of(name: PresetName) -> Self {
        let [
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            vocab_size,
            seq_len,
            batch_size,
        ] = match name {
            PresetName::Nano => [128, 352, 4, 4, 2, 512, 128, 8],
            PresetName::S => [256, 688, 6, 8, 4, 2048, 256, 8],
            PresetName::M => [512, 1376, 8, 8, 4, 8192, 512, 8],
            PresetName::L => [768, 2048, 12, 12, 12, 32000, 1024, 16],
        };
        Self {
            name,
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            vocab_size,
            seq_len,
            batch_size,
        }
    }

    /// The keys that a preset sets, with its values.
    pub(super) fn values(&self) -> [(&'static str, u32); 9] {
        [
            ("model.hidden_size", self.hidden_size),
            ("model.intermediate_size", self.intermediate_size),
            ("model.num_hidden_layers", self.num_hidden_layers),
            ("model.num_attention_heads", self.num_attention_heads),
            ("model.num_key_value_heads", self.num_key_value_heads),
            ("model.vocab_size", self.vocab_size),
            ("model.max_position_embeddings", self.seq_len),
            ("train.seq_len", self.seq_len),
            ("train.batch_size", self.batch_size),
        ]
    }
}
