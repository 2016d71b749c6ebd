//! When the dispatches of a phase run, by timestamp queries: a pass for each, for timestamps inside passes and encoders are
//! features that fewer devices have.

use std::ops::Range;

use evenkeel_schedule::StepTime;
use wgpu::{Buffer, BufferUsages, ComputePassDescriptor, ComputePassTimestampWrites, Features, QuerySet};

use crate::{Gpu, GpuError, plan::Plan, wait::Signal};

/// Bytes of a timestamp.
const TICK: u64 = 8;

#[derive(Debug)]
pub(crate) struct Timing {
    queries: QuerySet,
    resolved: Buffer,
    staging: Buffer,
    times: Vec<StepTime>,
    /// Begin of the first dispatch, in ticks.
    origin: Option<u64>,
}

impl Timing {
    /// Dispatches of a submit: two queries each.
    pub(crate) const MOST: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

    pub(crate) async fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        if !gpu.device.features().contains(Features::TIMESTAMP_QUERY) {
            let adapter = gpu.summary.to_string();
            return Err(GpuError::Feature { what: "times of kernels", feature: "timestamp queries", adapter });
        }
        let size = 2 * TICK * Self::MOST as u64;
        let (queries, outcome) = gpu.scoped("timestamps", size, || {
            gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2 * Self::MOST as u32,
            })
        });
        outcome.await?;
        let resolved = gpu.buffer("timestamps", size, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC).await?;
        let staging = gpu.buffer("timestamps", size, BufferUsages::MAP_READ | BufferUsages::COPY_DST).await?;
        Ok(Self { queries, resolved, staging, times: Vec::new(), origin: None })
    }

    pub(crate) fn take(&mut self) -> Vec<StepTime> {
        std::mem::take(&mut self.times)
    }

    /// Runs some dispatches, at most [`Timing::MOST`], and waits for them.
    pub(crate) async fn run(&mut self, gpu: &Gpu, plan: &Plan, part: Range<usize>) -> Result<(), GpuError> {
        gpu.check()?;
        let ((), outcome) = gpu.scoped("submit", 0, || {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            for (dispatch, query) in plan.dispatches[part.clone()].iter().zip((0..).step_by(2)) {
                let timestamp_writes = Some(ComputePassTimestampWrites {
                    query_set: &self.queries,
                    beginning_of_pass_write_index: Some(query),
                    end_of_pass_write_index: Some(query + 1),
                });
                let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor { label: None, timestamp_writes });
                pass.set_pipeline(&dispatch.pipeline);
                pass.set_bind_group(0, &dispatch.group, &[]);
                pass.dispatch_workgroups(dispatch.x, dispatch.y, 1);
            }
            encoder.resolve_query_set(&self.queries, 0..2 * part.len() as u32, &self.resolved, 0);
            encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, self.staging.size());
            gpu.submit(encoder.finish(), &Signal::new());
        });
        outcome.await?;
        let bytes = gpu.map(&self.staging, "timestamps").await?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
        let origin = *self.origin.get_or_insert(ticks[0]);
        let period = f64::from(gpu.queue.get_timestamp_period()) * 1e-9;
        let seconds = |tick: u64| tick.saturating_sub(origin) as f64 * period;
        for (index, &[began, ended]) in part.zip(ticks.as_chunks().0) {
            // The step that this dispatch is a piece of.
            let step = plan.first_of_step.partition_point(|first| *first <= index) - 1;
            self.times.push(StepTime { step, began: seconds(began), ended: seconds(ended) });
        }
        Ok(())
    }
}
