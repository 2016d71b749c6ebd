//! Evenkeel's LLaMA out of Burn's own modules: grouped queries, rotate-half rotary positions, SwiGLU, an untied head.

use std::{error::Error, path::Path};

use burn::{
    module::{Module, Param},
    nn::{Embedding, Linear, RmsNorm, loss::CrossEntropyLoss},
    tensor::{Device, Int, Tensor, TensorData, activation::silu, module::attention, ops::AttentionModuleOptions},
};
use safetensors::SafeTensors;
use serde_json::Value;

/// Extents by their letters.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub l: usize,
    pub h: usize,
    pub kv: usize,
    pub d: usize,
    pub t: usize,
    eps: f64,
    theta: f64,
}

impl Shape {
    /// From Hugging Face's `config.json`.
    pub fn read(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
        let extent = |key: &str| config[key].as_u64().map(|value| value as usize).ok_or(format!("config.json: {key}"));
        let number = |key: &str| config[key].as_f64().ok_or(format!("config.json: {key}"));
        let h = extent("num_attention_heads")?;
        Ok(Self {
            l: extent("num_hidden_layers")?,
            h,
            kv: extent("num_key_value_heads")?,
            d: extent("hidden_size")? / h,
            t: extent("max_position_embeddings")?,
            eps: number("rms_norm_eps")?,
            theta: number("rope_theta")?,
        })
    }
}

#[derive(Module, Debug)]
struct Layer {
    input_norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    mlp_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

#[derive(Module, Debug)]
pub struct Llama {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    loss: CrossEntropyLoss,
}

/// Weights by Hugging Face's names.
struct Weights<'a> {
    tensors: SafeTensors<'a>,
    device: &'a Device,
    eps: f64,
}

impl Weights<'_> {
    fn values(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>), Box<dyn Error>> {
        let view = self.tensors.tensor(name)?;
        let values =
            view.data().chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        Ok((values.collect(), view.shape().to_vec()))
    }

    fn norm(&self, name: &str) -> Result<RmsNorm, Box<dyn Error>> {
        let (values, shape) = self.values(name)?;
        Ok(RmsNorm { gamma: Param::from_data(TensorData::new(values, shape), self.device), epsilon: self.eps })
    }

    /// Burn keeps (inputs, outputs), Hugging Face (outputs, inputs).
    fn linear(&self, name: &str) -> Result<Linear, Box<dyn Error>> {
        let (values, shape) = self.values(name)?;
        let (outputs, inputs) = (shape[0], shape[1]);
        let transposed = (0..inputs).flat_map(|i| (0..outputs).map(move |o| o * inputs + i)).map(|i| values[i]);
        let data = TensorData::new(transposed.collect::<Vec<_>>(), [inputs, outputs]);
        Ok(Linear { weight: Param::from_data(data, self.device), bias: None })
    }
}

impl Llama {
    /// The model of a folder in Hugging Face's layout.
    pub fn load(folder: &Path, shape: Shape, device: &Device) -> Result<Self, Box<dyn Error>> {
        let bytes = std::fs::read(folder.join("model.safetensors"))?;
        let weights = Weights { tensors: SafeTensors::deserialize(&bytes)?, device, eps: shape.eps };
        let (embedding, extents) = weights.values("model.embed_tokens.weight")?;
        let layer = |i: usize| -> Result<Layer, Box<dyn Error>> {
            let linear = |name: &str| weights.linear(&format!("model.layers.{i}.{name}_proj.weight"));
            let norm = |name: &str| weights.norm(&format!("model.layers.{i}.{name}_layernorm.weight"));
            Ok(Layer {
                input_norm: norm("input")?,
                q: linear("self_attn.q")?,
                k: linear("self_attn.k")?,
                v: linear("self_attn.v")?,
                o: linear("self_attn.o")?,
                mlp_norm: norm("post_attention")?,
                gate: linear("mlp.gate")?,
                up: linear("mlp.up")?,
                down: linear("mlp.down")?,
            })
        };
        Ok(Self {
            embedding: Embedding { weight: Param::from_data(TensorData::new(embedding, extents), device) },
            layers: (0..shape.l).map(layer).collect::<Result<_, _>>()?,
            norm: weights.norm("model.norm.weight")?,
            head: weights.linear("lm_head.weight")?,
            loss: CrossEntropyLoss::new(None, device),
        })
    }

    /// Mean loss of `targets` (B, T) after `ids` (B, T), in nats.
    pub fn loss(&self, ids: Tensor<2, Int>, targets: Tensor<2, Int>, rotary: &Rotary) -> Tensor<1> {
        let [b, t] = ids.dims();
        let mut x = self.embedding.forward(ids);
        for layer in &self.layers {
            x = layer.forward(x, rotary);
        }
        let logits = self.head.forward(self.norm.forward(x));
        let v = logits.dims()[2];
        self.loss.forward(logits.reshape([b * t, v]), targets.reshape([b * t]))
    }
}

impl Layer {
    fn forward(&self, x: Tensor<3>, rotary: &Rotary) -> Tensor<3> {
        let [b, t, c] = x.dims();
        let Shape { h, kv, d, .. } = rotary.shape;
        let y = self.input_norm.forward(x.clone());
        let heads = |w: &Linear, heads: usize| w.forward(y.clone()).reshape([b, t, heads, d]).swap_dims(1, 2);
        let shared = |x: Tensor<4>| {
            let x: Tensor<5> = x.unsqueeze_dim(2);
            x.expand([b, kv, h / kv, t, d]).reshape([b, h, t, d])
        };
        let q = rotary.rotate(heads(&self.q, h));
        let k = shared(rotary.rotate(heads(&self.k, kv)));
        let v = shared(heads(&self.v, kv));
        let causal = AttentionModuleOptions { is_causal: true, ..AttentionModuleOptions::default() };
        let y = attention(q, k, v, None, None, causal);
        let x = x + self.o.forward(y.swap_dims(1, 2).reshape([b, t, c]));
        let y = self.mlp_norm.forward(x.clone());
        x + self.down.forward(silu(self.gate.forward(y.clone())) * self.up.forward(y))
    }
}

/// Rotary positions in the rotate-half layout.
pub struct Rotary {
    shape: Shape,
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotary {
    pub fn new(shape: Shape, device: &Device) -> Self {
        let half = shape.d / 2;
        let angle = |i: usize| (i / half) as f64 * shape.theta.powf(-((i % half) as f64) / half as f64);
        let table = |of: fn(f64) -> f64| {
            let values: Vec<f32> = (0..shape.t * half).map(|i| of(angle(i)) as f32).collect();
            Tensor::from_data(TensorData::new(values, [1, 1, shape.t, half]), device)
        };
        Self { shape, cos: table(f64::cos), sin: table(f64::sin) }
    }

    fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let half = self.shape.d / 2;
        let (x1, x2) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        Tensor::cat(vec![x1.clone() * cos.clone() - x2.clone() * sin.clone(), x2 * cos + x1 * sin], 3)
    }
}
