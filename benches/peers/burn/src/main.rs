//! The training step of Evenkeel's presets on Burn, for `run.py`:
//!
//!     burn-peer flex|wgpu FOLDER BATCH speed SECONDS
//!     burn-peer flex|wgpu FOLDER BATCH losses STEPS
//!
//! FOLDER holds a model in Hugging Face's layout and `tokens.bin`, one stream of tokens (u16) whose step s reads
//! `[s B T, (s+1) B T]`. The first prints the time to the first step and tokens/s, the second the losses without
//! clipping: Burn clips every tensor by its own norm, the other engines all of them by their common one.

mod model;

use std::{error::Error, path::Path, time::Instant};

use burn::{
    grad_clipping::GradientClippingConfig,
    module::ParamGroup,
    optim::{AdamWConfig, GradientsParams, ModuleOptimizer},
    tensor::{Device, DeviceKind, Int, Tensor, TensorData},
};
use model::{Llama, Rotary, Shape};
use serde_json::json;

/// Bytes before the tokens.
const HEADER: usize = 1024;
/// Steps before the timed ones.
const WARM: usize = 3;

struct Training {
    model: Option<Llama>,
    optimizer: ModuleOptimizer,
    rotary: Rotary,
    tokens: Vec<i32>,
    device: Device,
    /// B, T.
    shape: [usize; 2],
    step: usize,
}

impl Training {
    fn new(folder: &Path, batch: usize, device: Device, clip: bool) -> Result<Self, Box<dyn Error>> {
        let shape = Shape::read(folder)?;
        let clipping = clip.then_some(GradientClippingConfig::Norm(1.0));
        let adamw = |decay| AdamWConfig::new().with_beta_2(0.95).with_epsilon(1e-8).with_weight_decay(decay);
        let optimizer = adamw(0.1).with_grad_clipping(clipping.clone()).init().with_group(
            ParamGroup::from_predicate("norm"),
            adamw(0.0).build(),
            clipping.map(|clipping| clipping.init()),
        );
        let bytes = std::fs::read(folder.join("tokens.bin"))?;
        let tokens = bytes[HEADER..].chunks_exact(2).map(|pair| i32::from(u16::from_le_bytes([pair[0], pair[1]])));
        Ok(Self {
            model: Some(Llama::load(folder, shape, &device)?),
            optimizer,
            rotary: Rotary::new(shape, &device),
            tokens: tokens.collect(),
            device,
            shape: [batch, shape.t],
            step: 0,
        })
    }

    fn rows(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// One step; the loss before it.
    fn step(&mut self) -> Result<f32, Box<dyn Error>> {
        let rows = self.rows();
        let start = self.step % ((self.tokens.len() - 1) / rows) * rows;
        let batch = |start: usize| -> Tensor<2, Int> {
            let values = self.tokens[start..start + rows].to_vec();
            Tensor::from_data(TensorData::new(values, self.shape), &self.device)
        };
        let model = self.model.take().ok_or("a step failed before")?;
        let loss = model.loss(batch(start), batch(start + 1), &self.rotary);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(self.optimizer.step(1e-3, model, gradients));
        self.step += 1;
        Ok(loss.into_scalar::<f32>())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backend, folder, batch, what, count] = arguments.as_slice() else {
        return Err("expected flex|wgpu FOLDER BATCH, then speed SECONDS or losses STEPS".into());
    };
    let device = match backend.as_str() {
        "flex" => Device::flex(),
        _ => Device::wgpu(DeviceKind::DefaultDevice),
    };
    let mut training = Training::new(Path::new(folder), batch.parse()?, device.autodiff(), what == "speed")?;
    if what == "losses" {
        let steps: usize = count.parse()?;
        let losses = (0..steps).map(|_| training.step()).collect::<Result<Vec<_>, _>>()?;
        println!("{}", json!({ "losses": losses }));
        return Ok(());
    }
    let seconds: f64 = count.parse()?;
    training.step()?;
    let first_step = start.elapsed().as_secs_f64();
    for _ in 1..WARM {
        training.step()?;
    }
    training.device.sync()?;
    let mut times = Vec::new();
    while times.len() < 3 || times.iter().sum::<f64>() < seconds {
        let start = Instant::now();
        training.step()?;
        training.device.sync()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let tokens_per_s = training.rows() as f64 / times[times.len() / 2];
    println!("{}", json!({ "first_step_s": first_step, "tokens_per_s": tokens_per_s, "steps": times.len() }));
    Ok(())
}
