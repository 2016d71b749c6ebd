//! The table of keys: the single home of every section, key, type, range, default and meaning of the run file.
//! The settings' types, the checks, `--help` and the README's table all come from it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use evenkeel_model::{
    choices,
    init::InitScheme,
    rational::{RationalForm, RationalSet},
};

use super::key::{Condition::*, Fallback::*, Key, Kind, Setting};
use super::layers::Values;

/// Lets settings be of these enums.
macro_rules! chosen {
    ($($name:ty),+ $(,)?) => { $(
        impl Setting for $name {
            const KIND: Kind = Kind::Choice(<$name>::NAMES);
        }
    )+ };
}

chosen!(Arch, InitScheme, OptimizerKind, Order, Precision, PresetName, RationalForm, ScheduleKind);

/// `bpe`, `bytes`, or the absolute path of a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenizerName(pub PathBuf);

impl TokenizerName {
    /// Those that are no paths.
    pub(super) const WORDS: &[&str] = &["bpe", "bytes"];

    /// The path, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        let word = self.0.to_str().is_some_and(|name| Self::WORDS.contains(&name));
        (!word).then_some(&self.0)
    }
}

impl Setting for TokenizerName {
    const KIND: Kind = Kind::WordOrPath(Self::WORDS);
}

impl Setting for [RationalSet; 2] {
    const KIND: Kind = Kind::Choices { names: RationalSet::NAMES, count: 2 };
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
    /// Which model: what its MLPs are.
    Arch {
        /// LLaMA: SwiGLU.
        Llama = "llama",
        /// KAT: group-rational activations, each before its linear.
        Kat = "kat",
    }
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
    /// What activations and the operands of matrix products are stored in.
    Precision {
        /// f32, as everything is.
        F32 = "f32",
        /// f16, with f32 arithmetic, weights and sums, and a dynamic loss scale.
        Mixed = "mixed",
    }
    /// The update rule.
    OptimizerKind {
        /// AdamW: decoupled weight decay (Loshchilov and Hutter, 2019).
        Adamw = "adamw",
        /// NovoGrad: one second moment per tensor (Ginsburg et al., 2019).
        Novograd = "novograd",
    }
    /// The learning rate after the warm-up.
    ScheduleKind {
        /// Stays at its peak.
        Constant = "constant",
        /// Falls along a line.
        Linear = "linear",
        /// Falls along half a cosine.
        Cosine = "cosine",
        /// Warm-up, stable, decay: stays at its peak, then falls along a line.
        Wsd = "wsd",
    }
}

sections! {
    /// The model: a preset with any of its fields changed, or a checkpoint to start from.
    model: ModelSettings = ModelSettings {
        /// Shape of the model, and its usual seq_len and batch_size
        preset: Option<PresetName> = Toml("\"nano\"");
        /// Checkpoint folder to start from, in place of all other keys of model and init
        from: Option<PathBuf> = Unset;
        /// Parameters that are not trained, by parts of their names such as "model.embed_tokens" or "layers.0"; goes with model.from
        freeze: Vec<String> = Toml("[]");
        /// LLaMA, or KAT: group-rational activations in the MLP
        arch: Option<Arch> = Toml("\"llama\"");
        /// Channels
        hidden_size: Option<usize> [AtLeast(1)] = Preset;
        /// Width of the MLP; a KAT's default is 3/2 of the preset's, in multiples of rational_groups
        intermediate_size: Option<usize> [AtLeast(1)] = Preset;
        /// Layers
        num_hidden_layers: Option<usize> [AtLeast(1)] = Preset;
        /// Query heads
        num_attention_heads: Option<usize> [AtLeast(1)] = Preset;
        /// Key/value heads, a divisor of the query heads
        num_key_value_heads: Option<usize> [AtLeast(1)] = Preset;
        /// Channels of a head
        head_dim: Option<usize> [AtLeast(1)] = Derived("hidden_size / num_attention_heads", head_dim);
        /// Tokens that the model knows; a tokenizer.json that is given decides it, in multiples of 64
        vocab_size: Option<usize> [AtLeast(1)] = Preset;
        /// Positions that the model knows, the limit of seq_len
        max_position_embeddings: Option<usize> [AtLeast(1)] = Preset;
        /// Added to the mean square in every RMSNorm
        rms_norm_eps: Option<f64> [Above(0)] = Toml("1e-5");
        /// Base of the rotary frequencies
        rope_theta: Option<f64> [Above(0)] = Toml("10000.0");
        /// Whether the output layer is the embedding
        tie_word_embeddings: Option<bool> = Toml("false");
        /// Groups of channels with rational coefficients of their own, a divisor of both widths (KAT)
        rational_groups: Option<usize> [AtLeast(1)] = Kat("8");
        /// Where the denominator has absolute values: around the sum, or around its terms (KAT)
        rational_form: Option<RationalForm> = Kat("\"abs_sum\"");
        /// Functions that the two activations of an MLP start as (KAT)
        rational_init: Option<[RationalSet; 2]> = Kat("[\"identity\", \"swish\"]");
        /// Whether the groups of an activation share one numerator (KAT)
        rational_shared_numerator: Option<bool> = Kat("true");
    }
    /// What the model reads.
    data: DataSettings = DataSettings {
        /// Text (.txt, .jsonl, .parquet, each also .gz or .zst), token shards or prepared data: files, folders, patterns; none: stories that the program writes
        train: Vec<PathBuf> = Toml("[]");
        /// The same for validation; none: a tenth of a training text is held out
        valid: Vec<PathBuf> = Toml("[]");
        /// How text becomes tokens: a BPE of vocab_size entries trained on it, its bytes, or a tokenizer.json or folder with one; none: that of model.from or of prepared data, else bpe, or bytes if vocab_size is below 257
        tokenizer: Option<TokenizerName> = Unset;
        /// Field or column of the text in .jsonl and .parquet
        text_field: String = Toml("\"text\"");
        /// Whether the tokenizer's first token of a document stands in front of every document
        bos: bool = Toml("false");
        /// Whether a line or byte that is no text is an error, not passed over
        strict: bool = Toml("false");
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
        /// Storage of activations and of the operands of matrix products: f32, or f16 with f32 arithmetic and weights
        precision: Precision = Toml("\"f32\"");
        /// Seed of the first weights, the data order, the stories and the samples
        seed: u64 [AtLeast(0)] = Toml("1");
        /// Steps between evaluations; 0: only after the last
        eval_every: u64 [AtLeast(0)] = Toml("100");
        /// Steps between samples of what the model writes, in samples.jsonl; 0: only after the last
        sample_every: u64 [AtLeast(0)] = Toml("100");
        /// Steps between checkpoints; 0: only after the last
        checkpoint_every: u64 [AtLeast(0)] = Toml("200");
        /// Newest checkpoints to keep; 0: all
        keep_checkpoints: usize [AtLeast(0)] = Toml("3");
        /// Whether an evaluation with the lowest loss so far writes a checkpoint, unless checkpoint_every is 0; it stays beside the newest until a lower one comes
        keep_best: bool = Toml("true");
    }
    /// The update of the weights.
    optimizer: OptimizerSettings = OptimizerSettings {
        /// Update rule
        kind: OptimizerKind = Toml("\"adamw\"");
        /// Peak learning rate
        lr: f64 [AtLeast(0)] = Optimizer { adamw: "2e-3", novograd: "1e-2" };
        /// Decay of the first moment
        beta1: f64 [AtLeast(0), Below(1)] = Optimizer { adamw: "0.9", novograd: "0.95" };
        /// Decay of the second moment
        beta2: f64 [AtLeast(0), Below(1)] = Optimizer { adamw: "0.95", novograd: "0.98" };
        /// Added to the root of the second moment; under the root in novograd
        eps: f64 [Above(0)] = Toml("1e-8");
        /// Decay of weight matrices and embeddings, not of norm weights and rational coefficients; times the learning rate
        weight_decay: f64 [AtLeast(0)] = Optimizer { adamw: "0.1", novograd: "1e-3" };
        /// Matrices and embeddings without decay, by parts of their names such as "embed_tokens" or "layers.0.mlp"
        no_decay: Vec<String> = Toml("[]");
        /// Largest global gradient norm; 0: no clipping
        grad_clip: f64 [AtLeast(0)] = Toml("1.0");
    }
    /// The learning rate over the steps.
    schedule: ScheduleSettings = ScheduleSettings {
        /// Learning rate after the warm-up
        kind: ScheduleKind = Toml("\"cosine\"");
        /// Steps of linear rise to the peak
        warmup_steps: u64 [AtLeast(0)] = Derived("min(100, train.steps / 10)", warmup_steps);
        /// Steps of linear fall at the end of a wsd
        decay_steps: u64 [AtLeast(0)] = Derived("train.steps / 5, at most the rest", decay_steps);
        /// Share of the peak that linear, cosine and wsd end at
        min_lr_ratio: f64 [AtLeast(0), AtMost(1)] = Toml("0.1");
    }
    /// The first weights; none if they come from a checkpoint.
    init: Option<InitSettings> = InitSettings {
        /// Distribution; all but normal are for the matrices inside the layers
        scheme: InitScheme = Toml("\"normal\"");
        /// Standard deviation, before the scheme's scaling
        std: f64 [AtLeast(0)] = Toml("0.02");
    }
    /// Target variance rescaling: matrices inside the layers that outgrow a standard deviation are shrunk back to it.
    tvr: TvrSettings = TvrSettings {
        /// Whether it is done
        enabled: bool = Toml("false");
        /// Standard deviation to shrink to
        target_std: f64 [Above(0)] = Toml("0.01");
        /// Steps from one check to the next; the first is after step 1 + interval
        interval: u64 [AtLeast(1)] = Toml("50");
        /// A matrix is shrunk where its standard deviation is more than this many targets
        threshold: f64 [AtLeast(1)] = Toml("1.2");
        /// Whether the target of layer l is target_std / sqrt(l)
        depth_scaled: bool = Toml("false");
        /// Matrices to leave alone, by a part of the name such as "o_proj" or "layers.0.mlp"
        exclude: Vec<String> = Toml("[]");
    }
    /// Statistics of weights, updates and residual stream in metrics.jsonl, computed on the device.
    instruments: InstrumentSettings = InstrumentSettings {
        /// Steps from one measured step to the next; 0: none
        interval: u64 [AtLeast(0)] = Toml("50");
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

fn decay_steps(values: &Values) -> Option<i64> {
    let steps = values.integer("train.steps")?;
    Some((steps / 5).min(steps.saturating_sub(values.integer("schedule.warmup_steps")?).max(0)))
}

/// The table of keys in Markdown: key, what it accepts, default, meaning. `--help` and the README show it.
pub fn key_table() -> String {
    let head = ["key", "value", "default", "meaning"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head)
        .chain(KEYS.iter().map(|key| {
            let default = key.default_text();
            [key.full_name(), key.expected(), default, key.meaning.trim().to_owned()]
        }))
        .collect();
    // A cell beyond this, such as a long list of choices, does not widen all others.
    const WIDEST: usize = 40;
    let lengths = |column: usize| rows.iter().map(move |row| row[column].len());
    let width = |column: usize| lengths(column).filter(|&length| length <= WIDEST).max().unwrap_or(0);
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
