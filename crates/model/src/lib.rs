//! Evenkeel's language models: configuration, parameters, layers with their backward.
