//! Which adapters there are, and which one is used.

use std::cmp::Reverse;

use evenkeel_shaders::{Class, Device};
use wgpu::{
    Backend, Backends, CooperativeMatrixProperties, CooperativeScalarType, DeviceDescriptor, DeviceType,
    ExperimentalFeatures, Features, InstanceDescriptor, InstanceFlags, Limits,
};

use crate::{GpuError, error::one_line};

/// Features that variants or measurements may use; none is needed.
const OPTIONAL: [(Features, &str); 4] = [
    (Features::SUBGROUP, "subgroup"),
    (Features::SUBGROUP_BARRIER, "subgroup-barrier"),
    (Features::SHADER_F16, "shader-f16"),
    (Features::TIMESTAMP_QUERY, "timestamp-query"),
];

/// What the kernels with cooperative matrices use beside them.
const COOPERATIVE: Features =
    Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(Features::SHADER_F16).union(Features::SUBGROUP);

/// What an adapter says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterSummary {
    /// Name of the GPU: `"llvmpipe (LLVM 15.0.6, 256 bits)"`.
    pub name: String,
    /// Name of the driver: `"llvmpipe"`.
    pub driver: String,
    /// Version of the driver: `"Mesa 22.3.6 (LLVM 15.0.6)"`.
    pub driver_info: String,
    /// Name of the API: `"Vulkan"`, `"Metal"`, `"DX12"`.
    pub backend: String,
    /// What the choice of variants depends on.
    pub device: Device,
    /// Fewest and most lanes of a subgroup, as the driver reports them.
    pub subgroup_sizes: (u32, u32),
    /// Largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// Most bytes of a buffer that a kernel can be given.
    pub max_binding_bytes: u64,
    /// Workgroup memory, in bytes.
    pub max_workgroup_bytes: u32,
    /// Most lanes of a workgroup.
    pub max_workgroup_lanes: u32,
    /// Optional features that the engine uses where they are there.
    pub features: Vec<&'static str>,
}

impl AdapterSummary {
    pub(crate) fn new(info: &wgpu::AdapterInfo, features: Features, limits: &Limits) -> Self {
        let fixed = info.subgroup_min_size == info.subgroup_max_size && features.contains(Features::SUBGROUP);
        let class = match info.device_type {
            DeviceType::Cpu => Class::Software,
            DeviceType::IntegratedGpu | DeviceType::Other => Class::Integrated,
            DeviceType::DiscreteGpu | DeviceType::VirtualGpu => Class::Discrete,
        };
        Self {
            name: info.name.clone(),
            driver: info.driver.clone(),
            driver_info: info.driver_info.clone(),
            backend: backend_name(info.backend).to_owned(),
            device: Device {
                class,
                subgroup_size: fixed.then_some(info.subgroup_min_size),
                subgroup_barrier: features.contains(Features::SUBGROUP_BARRIER),
                f16: features.contains(Features::SHADER_F16),
                cooperative_matrix: None,
            },
            subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
            max_buffer_bytes: limits.max_buffer_size,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
            max_workgroup_lanes: limits.max_compute_invocations_per_workgroup,
            features: OPTIONAL
                .iter()
                .filter(|(feature, _)| features.contains(*feature))
                .map(|(_, name)| *name)
                .collect(),
        }
    }

    /// With the largest squares that `adapter` reports, where `features` has what the kernels need beside them: a device
    /// does not tell itself.
    pub(crate) fn with_cooperative_matrices_of(mut self, adapter: &wgpu::Adapter, features: Features) -> Self {
        let reported = adapter.cooperative_matrix_properties();
        let largest = reported.iter().filter_map(square).max();
        self.device.cooperative_matrix = largest.filter(|_| features.contains(COOPERATIVE));
        self
    }

    /// Whether `text` is a part of the adapter's or the driver's name or version, in any case of letters. Mesa's
    /// software driver calls itself llvmpipe and is known as lavapipe: both match.
    pub fn matches(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let names = [&self.name, &self.driver, &self.driver_info].map(|name| name.to_lowercase());
        let alias = "lavapipe".contains(&text) && names.iter().any(|name| name.contains("llvmpipe"));
        alias || names.iter().any(|name| name.contains(&text))
    }
}

/// `llvmpipe (LLVM 15.0.6, 256 bits), Mesa 22.3.6 (LLVM 15.0.6), Vulkan`: adapter, driver, backend.
impl std::fmt::Display for AdapterSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let driver = [&self.driver_info, &self.driver].into_iter().find(|text| !text.is_empty());
        match driver {
            Some(driver) => write!(f, "{}, {driver}, {}", self.name, self.backend),
            None => write!(f, "{}, {}", self.name, self.backend),
        }
    }
}

/// An adapter that [`select`] chose; [`Adapter::open`] makes a [`Gpu`](crate::Gpu) of it.
#[derive(Clone, Debug)]
pub struct Adapter {
    inner: wgpu::Adapter,
    summary: AdapterSummary,
}

impl Adapter {
    fn new(inner: wgpu::Adapter) -> Self {
        let features = inner.features();
        let summary = AdapterSummary::new(&inner.get_info(), features, &inner.limits());
        Self { summary: summary.with_cooperative_matrices_of(&inner, features), inner }
    }

    /// What it says of itself.
    pub fn summary(&self) -> &AdapterSummary {
        &self.summary
    }

    /// `Limits::default()`, raised where memory or a faster variant gains by it, and the optional features. Returns what
    /// the adapter is with those; cooperative matrices, which are experimental, may be what a driver refuses.
    pub(crate) async fn request_device(&self) -> Result<(wgpu::Device, wgpu::Queue, AdapterSummary), GpuError> {
        if self.summary.device.cooperative_matrix.is_some() {
            // SAFETY: what is experimental is the kernels' use of cooperative matrices. The harness judges every one of
            // them, and no step runs one before it has passed a test on this very device (cooperative.rs).
            let experimental_features = unsafe { ExperimentalFeatures::enabled() };
            let required_features = Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            let wanted = DeviceDescriptor { required_features, experimental_features, ..Default::default() };
            match self.request(wanted).await {
                Ok((device, queue)) => return Ok((device, queue, self.summary.clone())),
                Err(error) => log::warn!("{}: opened without cooperative matrices: {}", self.summary, one_line(&error)),
            }
        }
        let mut summary = self.summary.clone();
        summary.device.cooperative_matrix = None;
        let opened = self.request(DeviceDescriptor::default()).await;
        let (device, queue) =
            opened.map_err(|error| GpuError::Open { adapter: summary.to_string(), reason: one_line(&error) })?;
        Ok((device, queue, summary))
    }

    /// A device with what the descriptor wants beside what all of ours have.
    async fn request(
        &self,
        wanted: DeviceDescriptor<'_>,
    ) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
        let offered = self.inner.limits();
        let required_limits = Limits {
            max_buffer_size: offered.max_buffer_size,
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_compute_workgroup_storage_size: offered.max_compute_workgroup_storage_size,
            max_compute_invocations_per_workgroup: offered.max_compute_invocations_per_workgroup,
            max_compute_workgroup_size_x: offered.max_compute_workgroup_size_x,
            max_compute_workgroup_size_y: offered.max_compute_workgroup_size_y,
            ..Limits::default()
        };
        let optional =
            OPTIONAL.iter().fold(Features::empty(), |all, (feature, _)| all | *feature) & self.inner.features();
        let required_features = wanted.required_features | optional;
        let descriptor = DeviceDescriptor { label: Some("evenkeel"), required_features, required_limits, ..wanted };
        self.inner.request_device(&descriptor).await
    }
}

/// The extent of a square product of f16 matrices into f32: naga can express no other.
fn square(reported: &CooperativeMatrixProperties) -> Option<u32> {
    let CooperativeMatrixProperties { m_size, n_size, k_size, ab_type, cr_type, .. } = *reported;
    let half = ab_type == CooperativeScalarType::F16 && cr_type == CooperativeScalarType::F32;
    (half && m_size == n_size && n_size == k_size && [8, 16].contains(&m_size)).then_some(m_size)
}

/// All adapters of the primary backends (Vulkan, Metal, DX12, WebGPU), the one that [`select`] takes by itself first.
/// GL has no subgroups and no compute on many drivers: it is listed only where `WGPU_BACKEND=gl` asks for it.
async fn enumerate() -> Vec<Adapter> {
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    descriptor.backends = Backends::PRIMARY;
    let mut descriptor = descriptor.with_env();
    // No dispatch here is indirect; its validation would only cap the size of buffers.
    descriptor.flags.remove(InstanceFlags::VALIDATION_INDIRECT_CALL);
    let found = wgpu::Instance::new(descriptor).enumerate_adapters(Backends::all()).await;
    let mut found: Vec<_> = found.into_iter().map(Adapter::new).collect();
    found.sort_by_key(|adapter| Reverse(rank(adapter.inner.get_info().device_type)));
    found
}

fn backend_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Noop => "no-op",
        Backend::Vulkan => "Vulkan",
        Backend::Metal => "Metal",
        Backend::Dx12 => "DX12",
        Backend::Gl => "GL",
        Backend::BrowserWebGpu => "WebGPU",
    }
}

fn rank(device_type: DeviceType) -> u8 {
    match device_type {
        DeviceType::DiscreteGpu => 4,
        DeviceType::IntegratedGpu => 3,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 1,
        DeviceType::Cpu => 0,
    }
}

/// All adapters, best first.
pub async fn adapters() -> Vec<AdapterSummary> {
    enumerate().await.into_iter().map(|adapter| adapter.summary).collect()
}

/// The first adapter that [matches](AdapterSummary::matches) `text`; without a text the best one: discrete, integrated,
/// virtual, then software.
///
/// # Errors
/// [`GpuError::NoAdapter`], or [`GpuError::UnknownAdapter`] with a list of what there is.
pub async fn select(text: Option<&str>) -> Result<Adapter, GpuError> {
    let found = enumerate().await;
    if found.is_empty() && text.is_none() {
        return Err(GpuError::NoAdapter);
    }
    let known = if found.is_empty() {
        "none".to_owned()
    } else {
        found.iter().map(|adapter| adapter.summary.to_string()).collect::<Vec<_>>().join("; ")
    };
    found
        .into_iter()
        .find(|adapter| text.is_none_or(|text| adapter.summary.matches(text)))
        .ok_or_else(|| GpuError::UnknownAdapter { text: text.unwrap_or_default().to_owned(), known })
}
