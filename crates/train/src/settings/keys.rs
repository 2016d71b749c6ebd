//! The table of keys: the single home of every section, key, type, range, default and meaning of the run file.
//! The settings' types, the checks, `--help` and the README's table all come from it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::key::{Condition::*, Fallback::*, Key, Kind, Setting};
use super::layers::Values;

/// Declares the names that a setting chooses from.
macro_rules! choices {
    ($($(#[$about:meta])+ $name:ident { $($(#[$meaning:meta])+ $variant:ident = $text:literal,)+ })+) => { $(
        $(#[$about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$meaning])+ #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every choice, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in a run file.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl Setting for $name {
            const KIND: Kind = Kind::Choice(&[$($text),+]);
        }
    )+ };
}

/// Declares the sections: for each its type in [`Settings`], its struct, and
/// `key: type [conditions] = default;` with the meaning as doc comment.
macro_rules! sections {
    ($($(#[doc = $about:literal])+ $section:ident: $held:ty = $settings:ident {
        $($(#[doc = $meaning:literal])+ $key:ident: $type:ty $([$($condition:expr),+])? = $default:expr;)+
    })+) => {
        /// All settings of a run, resolved: a section of the run file per field.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Settings { $($(#[doc = $about])+ pub $section: $held,)+ }

        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $settings { $($(#[doc = $meaning])+ pub $key: $type,)+ }
        )+

        pub(super) const SECTIONS: &[&str] = &[$(stringify!($section)),+];

        pub(super) const KEYS: &[Key] = &[$($(Key {
            section: stringify!($section),
            name: stringify!($key),
            kind: <$type as Setting>::KIND,
            conditions: &[$($($condition),+)?],
            default: $default,
            meaning: concat!($($meaning),+),
        },)+)+];
    };
}

choices! {
    /// Names of the presets, see [`presets`](super::presets).
    PresetName {
        /// The smallest.
        Nano = "nano",
        /// Small.
        S = "s",
        /// Medium.
        M = "m",
        /// Large.
        L = "l",
    }
    /// The order in which training windows are read.
    Order {
        /// A seeded permutation of the windows.
        Shuffled = "shuffled",
        /// From the first token on, without overlap.
        Sequential = "sequential",
    }
    /// The update rule.
    OptimizerKind {
        /// AdamW: decoupled weight decay (Loshchilov and Hutter, 2019).
        Adamw = "adamw",
    }
    /// The learning rate after the warm-up.
    ScheduleKind {
        /// Stays at its peak.
        Constant = "constant",
        /// Falls along half a cosine.
        Cosine = "cosine",
    }
    /// The distribution of the first weights.
    InitScheme {
        /// Normal around zero; norm weights are one.
        Normal = "normal",
    }
}

sections! {
    /// The model: a preset with any of its fields changed, or a checkpoint to start from.
    model: ModelSettings = ModelSettings {
        /// Shape of the model, and its usual seq_len and batch_size
        preset: Option<PresetName> = Toml("\"nano\"");
        /// Checkpoint folder to start from, in place of all other keys of model and init
        from: Option<PathBuf> = Unset;
        /// Channels
        hidden_size: Option<usize> [AtLeast(1)] = Preset;
        /// Width of the MLP
        intermediate_size: Option<usize> [AtLeast(1)] = Preset;
        /// Layers
        num_hidden_layers: Option<usize> [AtLeast(1)] = Preset;
        /// Query heads
        num_attention_heads: Option<usize> [AtLeast(1)] = Preset;
        /// Key/value heads, a divisor of the query heads
        num_key_value_heads: Option<usize> [AtLeast(1)] = Preset;
        /// Channels of a head
        head_dim: Option<usize> [AtLeast(1)] = Derived("hidden_size / num_attention_heads", head_dim);
        /// Tokens that the model knows
        vocab_size: Option<usize> [AtLeast(1)] = Preset;
        /// Positions that the model knows, the limit of seq_len
        max_position_embeddings: Option<usize> [AtLeast(1)] = Preset;
        /// Added to the mean square in every RMSNorm
        rms_norm_eps: Option<f64> [Above(0)] = Toml("1e-5");
        /// Base of the rotary frequencies
        rope_theta: Option<f64> [Above(0)] = Toml("10000.0");
        /// Whether the output layer is the embedding
        tie_word_embeddings: Option<bool> = Toml("false");
    }
    /// What the model reads.
    data: DataSettings = DataSettings {
        /// Text files or token shards; none: stories that the program writes
        train: Vec<PathBuf> = Toml("[]");
        /// The same for validation; none: a tenth of a training text is held out
        valid: Vec<PathBuf> = Toml("[]");
        /// Order of the training windows
        order: Order = Toml("\"shuffled\"");
    }
    /// The length of the run, its batches, and what it leaves behind.
    train: TrainSettings = TrainSettings {
        /// Optimizer steps
        steps: u64 [AtLeast(1)] = Toml("500");
        /// Sequences per micro-batch
        batch_size: usize [AtLeast(1)] = Preset;
        /// Micro-batches per step
        grad_accumulation: usize [AtLeast(1)] = Toml("1");
        /// Tokens per sequence
        seq_len: usize [AtLeast(1)] = Preset;
        /// Seed of the first weights, the data order, the stories and the sample
        seed: u64 [AtLeast(0)] = Toml("1");
        /// Steps between evaluations; 0: only after the last
        eval_every: u64 [AtLeast(0)] = Toml("100");
        /// Steps between checkpoints; 0: only after the last
        checkpoint_every: u64 [AtLeast(0)] = Toml("200");
        /// Newest checkpoints to keep; 0: all
        keep_checkpoints: usize [AtLeast(0)] = Toml("3");
    }
    /// The update of the weights.
    optimizer: OptimizerSettings = OptimizerSettings {
        /// Update rule
        kind: OptimizerKind = Toml("\"adamw\"");
        /// Peak learning rate
        lr: f64 [AtLeast(0)] = Toml("2e-3");
        /// Decay of the first moment
        beta1: f64 [AtLeast(0), Below(1)] = Toml("0.9");
        /// Decay of the second moment
        beta2: f64 [AtLeast(0), Below(1)] = Toml("0.95");
        /// Added to the root of the second moment
        eps: f64 [Above(0)] = Toml("1e-8");
        /// Decay of weight matrices and embeddings, not of norm weights; times the learning rate
        weight_decay: f64 [AtLeast(0)] = Toml("0.1");
        /// Largest global gradient norm; 0: no clipping
        grad_clip: f64 [AtLeast(0)] = Toml("1.0");
    }
    /// The learning rate over the steps.
    schedule: ScheduleSettings = ScheduleSettings {
        /// Learning rate after the warm-up
        kind: ScheduleKind = Toml("\"cosine\"");
        /// Steps of linear rise to the peak
        warmup_steps: u64 [AtLeast(0)] = Derived("min(100, train.steps / 10)", warmup_steps);
        /// Share of the peak that a cosine ends at
        min_lr_ratio: f64 [AtLeast(0), AtMost(1)] = Toml("0.1");
    }
    /// The first weights; none if they come from a checkpoint.
    init: Option<InitSettings> = InitSettings {
        /// Distribution
        scheme: InitScheme = Toml("\"normal\"");
        /// Standard deviation
        std: f64 [AtLeast(0)] = Toml("0.02");
    }
}

/// None where the heads do not divide the channels.
fn head_dim(values: &Values) -> Option<i64> {
    let hidden_size = values.integer("model.hidden_size")?;
    let heads = values.integer("model.num_attention_heads")?;
    (hidden_size % heads == 0).then(|| hidden_size / heads)
}

fn warmup_steps(values: &Values) -> Option<i64> {
    Some((values.integer("train.steps")? / 10).min(100))
}

/// The table of keys in Markdown: key, what it accepts, default, meaning. `--help` and the README show it.
pub fn key_table() -> String {
    let head = ["key", "value", "default", "meaning"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head)
        .chain(KEYS.iter().map(|key| {
            let default = key.default_text().to_owned();
            [key.full_name(), key.expected(), default, key.meaning.trim().to_owned()]
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (key, value, default) = (width(0), width(1), width(2));
    let mut table = String::new();
    for (i, [a, b, c, d]) in rows.iter().enumerate() {
        table += &format!("| {a:key$} | {b:value$} | {c:default$} | {d} |\n");
        if i == 0 {
            let rule = |width: usize| "-".repeat(width + 2);
            table += &format!("|{}|{}|{}|---|\n", rule(key), rule(value), rule(default));
        }
    }
    table
}
