//! Evenkeel's wgpu executor: adapters, pipelines from cards, readback.
