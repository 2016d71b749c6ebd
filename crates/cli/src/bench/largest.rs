//! `evenkeel bench --largest`: the largest model for a memory.

use evenkeel_train::{
    Compute,
    largest::{PlannedModel, models},
};
use serde_json::{Value, json};

use crate::{
    Outcome,
    output::{self, count, size},
};

/// Memories of devices, in GiB.
const MEMORIES: [u64; 6] = [2, 4, 8, 16, 24, 48];
/// Sequences per batch: what leaves most to the model, and what trains well.
const BATCH_SIZES: [u32; 2] = [1, 8];
const SEQ_LEN: u32 = 1024;
const GIB: u64 = 1 << 30;

/// The family's models for one size of batch.
struct Column {
    batch_size: u32,
    models: Vec<PlannedModel>,
}

impl Column {
    fn largest(&self, memory: u64) -> Option<&PlannedModel> {
        self.models.iter().rev().find(|model| model.planned_bytes <= memory * GIB)
    }
}

pub(super) fn run(compute: &Compute, as_json: bool) -> Outcome {
    let most = MEMORIES[MEMORIES.len() - 1] * GIB;
    let mut columns = Vec::new();
    for batch_size in BATCH_SIZES {
        output::note(&format!("planning models for batches of {batch_size} x {SEQ_LEN}"));
        columns.push(Column { batch_size, models: models(compute, batch_size, SEQ_LEN, most)? });
    }
    if as_json {
        output::line(&json!({ "largest": report(&columns) }).to_string());
    } else {
        table(&columns);
    }
    Ok(())
}

fn report(columns: &[Column]) -> Vec<Value> {
    let rows = |memory: u64| {
        columns.iter().filter_map(move |column| {
            let model = column.largest(memory)?;
            Some(json!({
                "memory_bytes": memory * GIB,
                "batch_size": column.batch_size,
                "seq_len": SEQ_LEN,
                "parameters": model.parameters,
                "hidden_size": model.hidden_size,
                "num_hidden_layers": model.layers,
                "planned_bytes": model.planned_bytes,
            }))
        })
    };
    MEMORIES.into_iter().flat_map(rows).collect()
}

fn table(columns: &[Column]) {
    output::line("largest LLaMA by memory: f32, AdamW, C = 64 L, heads of 64, 32,000 tokens, untied head");
    let cell = |column: &Column, memory| {
        column.largest(memory).map_or_else(
            || "none".to_owned(),
            |model| {
                let parameters = format!("{} parameters", count(model.parameters as f64));
                format!("{parameters}, C {}, L {}, {}", model.hidden_size, model.layers, size(model.planned_bytes))
            },
        )
    };
    let row = |first: String, cells: &mut dyn Iterator<Item = String>| {
        let cells: String = cells.map(|cell| format!("{cell:<52}")).collect();
        output::line(format!("{first:<10}{cells}").trim_end());
    };
    row("memory".to_owned(), &mut columns.iter().map(|column| format!("batch {} x {SEQ_LEN}", column.batch_size)));
    for memory in MEMORIES {
        row(format!("{memory} GiB"), &mut columns.iter().map(|column| cell(column, memory)));
    }
}
