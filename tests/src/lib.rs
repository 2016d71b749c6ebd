//! The kernel harness.
