//! The memory plan: every tensor's buffer, from liveness, before anything is allocated.
//!
//! Invariant: two tensors whose lives overlap never share a buffer. So the arguments of one step lie in different
//! buffers, as wgpu demands of what a dispatch reads and writes.

use std::{collections::BTreeMap, ops::RangeInclusive};

use crate::{Role, ScheduleError, Step, Tensor, TensorId};

/// Buffers are whole multiples of this many bytes, so that vec4 views of any tensor end inside its buffer.
const PADDING: u64 = 256;

/// One buffer to allocate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedBuffer {
    /// What it holds; a shared buffer counts as activations.
    pub role: Role,
    /// Bytes, a multiple of 256.
    pub bytes: u64,
    /// Name of the tensor it belongs to, or "shared N".
    pub label: String,
}

/// Where every tensor lies.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    buffers: Vec<PlannedBuffer>,
    /// By tensor; arenas' members have their arena's.
    buffer_of: Vec<usize>,
    live_peak_bytes: u64,
}

impl Memory {
    /// Buffers to allocate.
    pub fn buffers(&self) -> &[PlannedBuffer] {
        &self.buffers
    }

    /// The buffer of a tensor.
    pub fn buffer_of(&self, tensor: TensorId) -> usize {
        self.buffer_of[tensor.0]
    }

    /// Bytes by role.
    pub fn bytes_by_role(&self) -> BTreeMap<Role, u64> {
        let mut bytes = BTreeMap::new();
        for buffer in &self.buffers {
            *bytes.entry(buffer.role).or_default() += buffer.bytes;
        }
        bytes
    }

    /// All bytes.
    pub fn total_bytes(&self) -> u64 {
        self.buffers.iter().map(|buffer| buffer.bytes).sum()
    }

    /// Bytes that no plan can do without: what keeps its memory, and the most that is alive of the rest at one step.
    pub fn live_peak_bytes(&self) -> u64 {
        self.live_peak_bytes
    }

    /// Places all tensors. Activations share buffers: largest first, each into the first buffer where nothing that is
    /// alive at the same time lies.
    pub(crate) fn plan(tensors: &[Tensor], steps: &[Step], limit: u64) -> Result<Self, ScheduleError> {
        let lives = lives(tensors, steps);
        let mut memory = Self { buffer_of: vec![usize::MAX; tensors.len()], ..Self::default() };
        for (i, tensor) in tensors.iter().enumerate() {
            let bytes = (tensor.bytes() as u64).next_multiple_of(PADDING);
            if bytes > limit {
                return Err(ScheduleError::TooLarge { tensor: tensor.to_string(), limit, bytes });
            }
            if tensor.within.is_none() && tensor.role.persistent() {
                memory.buffer_of[i] = memory.buffers.len();
                memory.buffers.push(PlannedBuffer { role: tensor.role, bytes, label: tensor.name.clone() });
            }
        }
        memory.live_peak_bytes = memory.total_bytes() + live_peak(tensors, &lives, steps.len());
        memory.share(tensors, &lives);
        for (i, tensor) in tensors.iter().enumerate() {
            if let Some((arena, _)) = tensor.within {
                memory.buffer_of[i] = memory.buffer_of[arena.0];
            }
        }
        Ok(memory)
    }

    fn share(&mut self, tensors: &[Tensor], lives: &[Option<RangeInclusive<usize>>]) {
        let mut transient: Vec<usize> =
            (0..tensors.len()).filter(|&i| tensors[i].within.is_none() && !tensors[i].role.persistent()).collect();
        transient.sort_by_key(|&i| std::cmp::Reverse(tensors[i].bytes()));
        let first_shared = self.buffers.len();
        let mut tenants: Vec<Vec<RangeInclusive<usize>>> = Vec::new();
        for i in transient {
            // A tensor that no step touches needs no memory; it gets the first buffer's name only.
            let life = lives[i].clone().unwrap_or(0..=0);
            let free = |tenants: &Vec<RangeInclusive<usize>>| {
                tenants.iter().all(|other| other.end() < life.start() || life.end() < other.start())
            };
            let slot = tenants.iter().position(free).unwrap_or_else(|| {
                tenants.push(Vec::new());
                self.buffers.push(PlannedBuffer {
                    role: tensors[i].role,
                    bytes: (tensors[i].bytes() as u64).next_multiple_of(PADDING),
                    label: format!("shared {}", tenants.len() - 1),
                });
                tenants.len() - 1
            });
            if tensors[i].role == Role::Activation {
                self.buffers[first_shared + slot].role = Role::Activation;
            }
            self.buffer_of[i] = first_shared + slot;
            tenants[slot].push(life);
        }
    }
}

/// First and last step that touches each tensor that owns memory.
fn lives(tensors: &[Tensor], steps: &[Step]) -> Vec<Option<RangeInclusive<usize>>> {
    let mut lives: Vec<Option<RangeInclusive<usize>>> = vec![None; tensors.len()];
    for (i, step) in steps.iter().enumerate() {
        for view in &step.views {
            let root = tensors[view.tensor.0].within.map_or(view.tensor, |(arena, _)| arena);
            let life = &mut lives[root.0];
            *life = Some(life.as_ref().map_or(i, |life| *life.start())..=i);
        }
    }
    lives
}

/// The most bytes of activations and scratch that are alive at one step.
fn live_peak(tensors: &[Tensor], lives: &[Option<RangeInclusive<usize>>], steps: usize) -> u64 {
    let mut change = vec![0_i64; steps + 1];
    let transient = |tensor: &Tensor| tensor.within.is_none() && !tensor.role.persistent();
    for (tensor, life) in tensors.iter().zip(lives).filter(|(tensor, _)| transient(tensor)) {
        let Some(life) = life else { continue };
        let bytes = (tensor.bytes() as u64).next_multiple_of(PADDING) as i64;
        change[*life.start()] += bytes;
        change[life.end() + 1] -= bytes;
    }
    let live = change.iter().scan(0, |live, change| {
        *live += change;
        Some(*live as u64)
    });
    live.max().unwrap_or(0)
}
