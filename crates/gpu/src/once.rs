//! A single dispatch: bytes in, bytes out, or its time. Tests, probes, benchmarks and the self-test use it; steps run in
//! the executor.

use std::time::Duration;

use evenkeel_shaders::{Access, Card, Param, Params, Value};
use wgpu::BufferUsages;

use crate::{
    Gpu, GpuError,
    grid::{Piece, pieces},
    pace::SUBMIT_SECONDS,
    params,
    pipeline::{Kernel, Pipeline},
    platform,
    wait::Signal,
};

impl Gpu {
    /// Dispatches one kernel. `arguments` are the bytes of the card's arguments, in its order; they may be longer than
    /// the card says (guard words): everything that is given is bound, padded with zeros to a multiple of 16 bytes.
    /// Those that the card writes are read back in place. Contents of memory that is not given, such as the overshoot
    /// of the last workgroup, never show.
    ///
    /// # Errors
    /// [`GpuError::Arguments`] when an argument or a param is missing or too short, and whatever the device does wrong.
    pub async fn dispatch_once(
        &self,
        kernel: Kernel,
        params: &Params,
        arguments: &mut [Vec<u8>],
    ) -> Result<(), GpuError> {
        self.dispatch_in_pieces(kernel, params, arguments, 1).await
    }

    /// As [`Gpu::dispatch_once`], with the grid split into so many dispatches (fewer where it has fewer workgroups).
    ///
    /// # Errors
    /// As there.
    pub async fn dispatch_in_pieces(
        &self,
        kernel: Kernel,
        params: &Params,
        arguments: &mut [Vec<u8>],
        count: u32,
    ) -> Result<(), GpuError> {
        check_arguments(kernel, params, arguments)?;
        let card = kernel.card;
        let pipeline = self.pipeline(kernel).await?;
        let groups = self.groups(kernel, params)?;
        let pieces = pieces(groups, groups.div_ceil(count.max(1)));
        let buffers = self.upload(card, arguments).await?;
        let uniforms = self.upload_params(card, &pipeline, params, groups, &pieces).await?;
        let read_back = self.staging(card, arguments).await?;
        let bytes = buffers.iter().map(wgpu::Buffer::size).sum();
        let ((), outcome) = self.scoped(card.name, bytes, || {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline.compute);
            for (piece, uniform) in pieces.iter().zip(&uniforms) {
                let bindings = buffers.iter().chain([uniform]).map(wgpu::Buffer::as_entire_buffer_binding);
                pass.set_bind_group(0, &pipeline.bind(self, card.name, bindings), &[]);
                pass.dispatch_workgroups(piece.x, piece.y, 1);
            }
            drop(pass);
            for (i, staging) in &read_back {
                encoder.copy_buffer_to_buffer(&buffers[*i], 0, staging, 0, staging.size());
            }
            self.submit(encoder.finish(), &Signal::new())
        });
        outcome.await?;
        for (i, staging) in &read_back {
            let bytes = self.map(staging, card.name).await?;
            let given = arguments[*i].len();
            arguments[*i].copy_from_slice(&bytes[..given]);
        }
        self.check()
    }

    /// Seconds that one dispatch of a kernel takes, from submits of as many dispatches as take about a twentieth of a
    /// second: `samples` of them after two that do not count, or fewer where all together take `patience`; one at
    /// least. Arguments as in [`Gpu::dispatch_once`]; what a dispatch writes, the next one finds.
    ///
    /// # Errors
    /// As there.
    pub async fn time_dispatch(
        &self,
        kernel: Kernel,
        params: &Params,
        arguments: &[Vec<u8>],
        samples: usize,
        patience: Duration,
    ) -> Result<Vec<f64>, GpuError> {
        check_arguments(kernel, params, arguments)?;
        let card = kernel.card;
        let pipeline = self.pipeline(kernel).await?;
        let groups = self.groups(kernel, params)?;
        let pieces = pieces(groups, groups);
        let buffers = self.upload(card, arguments).await?;
        let uniforms = self.upload_params(card, &pipeline, params, groups, &pieces).await?;
        let bindings = buffers.iter().chain(&uniforms).map(wgpu::Buffer::as_entire_buffer_binding);
        let group = pipeline.bind(self, card.name, bindings);
        let mut count = 1_u32;
        let mut times = Vec::with_capacity(samples + 2);
        let start = platform::now();
        while times.len() < samples + 2 && (times.is_empty() || platform::now() - start < patience) {
            let ended = Signal::new();
            let began = platform::now();
            let ((), outcome) = self.scoped(card.name, 0, || {
                let mut encoder = self.device.create_command_encoder(&Default::default());
                let mut pass = encoder.begin_compute_pass(&Default::default());
                pass.set_pipeline(&pipeline.compute);
                pass.set_bind_group(0, &group, &[]);
                for _ in 0..count {
                    pieces.iter().for_each(|piece| pass.dispatch_workgroups(piece.x, piece.y, 1));
                }
                drop(pass);
                self.submit(encoder.finish(), &ended)
            });
            outcome.await?;
            self.wait_for(&ended, card.name).await?;
            let seconds = (platform::now() - began).as_secs_f64() / f64::from(count);
            times.push(seconds);
            if times.len() == 2 {
                count = (SUBMIT_SECONDS / seconds.max(1e-6)).clamp(1.0, 10_000.0) as u32;
            }
        }
        Ok(times.split_off(times.len().saturating_sub(1).min(2)))
    }

    /// Workgroups of the whole grid.
    pub(crate) fn groups(&self, Kernel { card, variant, .. }: Kernel, params: &Params) -> Result<u32, GpuError> {
        let groups = (variant.groups)(params, &self.profile());
        u32::try_from(groups).map_err(|_| GpuError::Arguments {
            kernel: card.name,
            what: format!("workgroups of {} under {params}", variant.name),
            expected: format!("at most {}", u32::MAX),
            got: groups.to_string(),
        })
    }

    async fn upload(&self, card: &'static Card, arguments: &[Vec<u8>]) -> Result<Vec<wgpu::Buffer>, GpuError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let mut buffers = Vec::with_capacity(arguments.len());
        for (arg, bytes) in card.args.iter().zip(arguments) {
            let what = format!("{} of {}", arg.name, card.name);
            let most = self.limits.max_storage_buffer_binding_size;
            self.within("maxStorageBufferBindingSize", &what, most, padded(bytes))?;
            buffers.push(self.filled(&what, bytes, usage).await?);
        }
        Ok(buffers)
    }

    async fn upload_params(
        &self,
        card: &'static Card,
        pipeline: &Pipeline,
        params: &Params,
        groups: u32,
        pieces: &[Piece],
    ) -> Result<Vec<wgpu::Buffer>, GpuError> {
        let mut uniforms = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let bytes = params::encode(card.name, &pipeline.reflection, params, groups, piece.offset)?;
            uniforms.push(self.filled("params", &bytes, BufferUsages::UNIFORM | BufferUsages::COPY_DST).await?);
        }
        Ok(uniforms)
    }

    /// A buffer of these bytes, padded.
    async fn filled(&self, what: &str, bytes: &[u8], usage: BufferUsages) -> Result<wgpu::Buffer, GpuError> {
        let buffer = self.buffer(what, padded(bytes), usage).await?;
        let mut whole = bytes.to_vec();
        whole.resize(padded(bytes) as usize, 0);
        let ((), outcome) = self.scoped(what, buffer.size(), || self.queue.write_buffer(&buffer, 0, &whole));
        outcome.await?;
        Ok(buffer)
    }

    async fn staging(
        &self,
        card: &'static Card,
        arguments: &[Vec<u8>],
    ) -> Result<Vec<(usize, wgpu::Buffer)>, GpuError> {
        let mut staging = Vec::new();
        for (i, (arg, bytes)) in card.args.iter().zip(arguments).enumerate() {
            if arg.access != Access::Read {
                let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
                staging.push((i, self.buffer("readback", padded(bytes), usage).await?));
            }
        }
        Ok(staging)
    }
}

/// Every view begins and ends at a multiple of 16 bytes, so that any argument can be seen as `vec4<f32>`.
fn padded(bytes: &[u8]) -> u64 {
    (bytes.len() as u64).next_multiple_of(16).max(16)
}

fn check_arguments(
    Kernel { card, variant, form }: Kernel,
    params: &Params,
    arguments: &[Vec<u8>],
) -> Result<(), GpuError> {
    let wrong = |what: &str, expected: String, got: String| {
        Err(GpuError::Arguments { kernel: card.name, what: what.to_owned(), expected, got })
    };
    for param in card.params {
        let got = params.get(param.name());
        if !matches!((param, got), (Param::Dim(_), Some(Value::U32(_))) | (Param::Scalar(_), Some(Value::F32(_)))) {
            return wrong("param", format!("{param:?}"), format!("{got:?}"));
        }
    }
    if !(variant.fits)(params) {
        return wrong("params", format!("extents that fit {}", variant.name), params.to_string());
    }
    if arguments.len() != card.args.len() {
        return wrong("arguments", card.args.len().to_string(), arguments.len().to_string());
    }
    for (arg, bytes) in card.args.iter().zip(arguments) {
        let least = arg.len(params) * arg.stored(form.precision).size();
        if bytes.len() < least {
            return wrong(arg.name, format!("{least} bytes"), bytes.len().to_string());
        }
    }
    Ok(())
}
