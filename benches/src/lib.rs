//! Benchmarks: `cargo bench`. Results and failed ideas stand in LOG.md.
