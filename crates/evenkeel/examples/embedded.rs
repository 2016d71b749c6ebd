//! Trains while it draws: an application with a device and a frame of its own gives the trainer a share of every frame, and
//! renders the loss so far into a texture on the same device. At the end it writes the picture as a PNG.
//!
//! `cargo run -p evenkeel --example embedded [FILE.png]`

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use evenkeel::{Settings, Trainer, on_host, wgpu};

const WIDTH: u32 = 512;
const HEIGHT: u32 = 256;
/// What a frame may take, and what of it the device may train.
const FRAME: Duration = Duration::from_millis(16);
const BUDGET: Duration = Duration::from_millis(6);
/// Points of the curve that fit the vertex buffer.
const MOST_POINTS: usize = 4096;
const BACKGROUND: wgpu::Color = wgpu::Color { r: 0.05, g: 0.06, b: 0.09, a: 1.0 };

const SETTINGS: &str = "
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 2
vocab_size = 256
max_position_embeddings = 32
[train]
steps = 40
batch_size = 4
seq_len = 32
";

const LINE: &str = "
@vertex fn vertex(@location(0) at: vec2<f32>) -> @builtin(position) vec4<f32> { return vec4(at, 0.0, 1.0); }
@fragment fn fragment() -> @location(0) vec4<f32> { return vec4(1.0, 0.7, 0.2, 1.0); }
";

/// What the application saw.
pub struct Seen {
    /// Frames drawn.
    pub frames: usize,
    /// Frames that took longer than they may.
    pub late: usize,
    /// Losses of the steps, in order.
    pub losses: Vec<f64>,
    /// RGBA of the last frame.
    pub picture: Vec<u8>,
}

#[allow(dead_code, reason = "a test runs the rest as a module")]
fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("loss.png"), PathBuf::from);
    let seen = pollster::block_on(run())?;
    write_png(&path, &seen.picture)?;
    println!(
        "{} steps in {} frames, {} of them longer than {} ms; {} has the loss",
        seen.losses.len(),
        seen.frames,
        seen.late,
        FRAME.as_millis(),
        path.display()
    );
    Ok(())
}

/// The application's life.
pub async fn run() -> Result<Seen, Box<dyn Error>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = wgpu::util::initialize_adapter_from_env_or_default(&instance, None).await?;
    let (device, queue) = adapter.request_device(&wgpu::DeviceDescriptor::default()).await?;
    let settings = Settings::from_toml(SETTINGS)?;
    let mut trainer = Trainer::new(&settings, &on_host(&device, &queue)).await?;
    let losses = Arc::new(Mutex::new(Vec::new()));
    let heard = losses.clone();
    trainer.on_step(move |row| heard.lock().unwrap_or_else(PoisonError::into_inner).push(row.loss));
    let plot = Plot::new(&device);
    let (mut frames, mut late) = (0, 0);
    while !trainer.is_finished() {
        let start = Instant::now();
        trainer.step_within(BUDGET)?;
        plot.draw(&device, &queue, &losses.lock().unwrap_or_else(PoisonError::into_inner));
        frames += 1;
        late += usize::from(start.elapsed() > FRAME);
        // A window would wait for its next refresh here.
        std::thread::sleep(FRAME.saturating_sub(start.elapsed()).min(Duration::from_millis(1)));
    }
    let losses = std::mem::take(&mut *losses.lock().unwrap_or_else(PoisonError::into_inner));
    plot.draw(&device, &queue, &losses);
    let picture = plot.read(&device, &queue)?;
    Ok(Seen { frames, late, losses, picture })
}

/// A curve and what it is drawn with.
struct Plot {
    pipeline: wgpu::RenderPipeline,
    points: wgpu::Buffer,
    texture: wgpu::Texture,
}

impl Plot {
    fn new(device: &wgpu::Device) -> Self {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("line"),
            source: wgpu::ShaderSource::Wgsl(LINE.into()),
        });
        let format = wgpu::TextureFormat::Rgba8Unorm;
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("line"),
            layout: None,
            vertex: wgpu::VertexState {
                module: &module,
                entry_point: None,
                compilation_options: Default::default(),
                buffers: &[Some(wgpu::VertexBufferLayout {
                    array_stride: 8,
                    step_mode: wgpu::VertexStepMode::Vertex,
                    attributes: &wgpu::vertex_attr_array![0 => Float32x2],
                })],
            },
            primitive: wgpu::PrimitiveState { topology: wgpu::PrimitiveTopology::LineStrip, ..Default::default() },
            depth_stencil: None,
            multisample: Default::default(),
            fragment: Some(wgpu::FragmentState {
                module: &module,
                entry_point: None,
                compilation_options: Default::default(),
                targets: &[Some(format.into())],
            }),
            multiview_mask: None,
            cache: None,
        });
        let points = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("points"),
            size: 8 * MOST_POINTS as u64,
            usage: wgpu::BufferUsages::VERTEX | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let texture = device.create_texture(&wgpu::TextureDescriptor {
            label: Some("picture"),
            size: wgpu::Extent3d { width: WIDTH, height: HEIGHT, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        Self { pipeline, points, texture }
    }

    /// Draws the losses from left to right, the first one near the top.
    fn draw(&self, device: &wgpu::Device, queue: &wgpu::Queue, losses: &[f64]) {
        let losses = &losses[losses.len().saturating_sub(MOST_POINTS)..];
        let top = losses.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let across = losses.len().saturating_sub(1).max(1) as f64;
        let point = |(i, loss): (usize, &f64)| [1.8 * i as f64 / across - 0.9, 1.8 * loss / top - 0.9];
        let bytes: Vec<u8> =
            losses.iter().enumerate().flat_map(point).flat_map(|at| (at as f32).to_le_bytes()).collect();
        if !bytes.is_empty() {
            queue.write_buffer(&self.points, 0, &bytes);
        }
        let view = self.texture.create_view(&Default::default());
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("frame"),
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations { load: wgpu::LoadOp::Clear(BACKGROUND), store: wgpu::StoreOp::Store },
            })],
            ..Default::default()
        });
        pass.set_pipeline(&self.pipeline);
        pass.set_vertex_buffer(0, self.points.slice(..));
        pass.draw(0..losses.len() as u32, 0..1);
        drop(pass);
        queue.submit([encoder.finish()]);
    }

    /// The texture, row by row. A row of 512 pixels is a multiple of the 256 bytes that copies ask for.
    fn read(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Vec<u8>, Box<dyn Error>> {
        let staging = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("picture"),
            size: u64::from(4 * WIDTH * HEIGHT),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let layout =
            wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(4 * WIDTH), rows_per_image: Some(HEIGHT) };
        let mut encoder = device.create_command_encoder(&Default::default());
        encoder.copy_texture_to_buffer(
            self.texture.as_image_copy(),
            wgpu::TexelCopyBufferInfo { buffer: &staging, layout },
            self.texture.size(),
        );
        queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |_| ());
        device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(staging.get_mapped_range(..)?.to_vec())
    }
}

/// Writes RGBA of the picture's size.
pub fn write_png(path: &Path, picture: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut encoder = png::Encoder::new(std::fs::File::create(path)?, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgba);
    Ok(encoder.write_header()?.write_image_data(picture)?)
}
