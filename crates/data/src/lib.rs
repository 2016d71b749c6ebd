//! Evenkeel's data: story corpus, text files, token shards, deterministic batches.
