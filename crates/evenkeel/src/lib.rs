//! Pretrains small language models on any GPU that wgpu reaches.
