//! `evenkeel inspect`: the weights of a checkpoint and the course of a run, as tables and as plots.

mod checkpoint_plots;
mod run_plots;
mod summary;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
};

use evenkeel_train::{
    checkpoint::{self, CONFIG_FILE, error::CheckpointError},
    inspection::{Model, run::RunRecord},
};
use serde_json::{Value, json};

use crate::{Outcome, output, plots::Chart};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  evenkeel inspect runs/first --plots plots\n  evenkeel inspect runs/first/checkpoints/step-000600"
)]
pub(crate) struct Arguments {
    /// Folder with config.json and model.safetensors, or run folder
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Draws plots into this folder, as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Prints one line of JSON in place of the tables
    #[arg(long)]
    json: bool,
}

/// What was found in the folder.
struct Findings {
    /// Of a run.
    run: Option<RunRecord>,
    /// The checkpoint asked for, or the newest of the run if it has one: its folder and what is in it.
    checkpoint: Option<(PathBuf, Model)>,
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let Arguments { folder, plots, json } = arguments;
    // A run is looked at as a whole, with its newest checkpoint.
    let folder = if RunRecord::is_in(&folder) { folder } else { checkpoint::resolve(&folder)? };
    let findings = find(&folder)?;
    let drawn = match &plots {
        Some(plots) => draw(&findings, plots)?,
        None => Vec::new(),
    };
    if json {
        output::line(&as_json(&folder, &findings, &drawn)?.to_string());
        return Ok(());
    }
    if let Some(run) = &findings.run {
        for (name, value) in summary::lines(&folder, run)? {
            output::line(&format!("{name:<22} {value}"));
        }
    }
    if let Some((path, model)) = &findings.checkpoint {
        if findings.run.is_some() {
            output::line(&format!("\n{}", path.display()));
        }
        output::bytes(table::text(&model.tensors).as_bytes());
    }
    for path in drawn {
        output::line(&format!("wrote {}", path.display()));
    }
    Ok(())
}

fn find(folder: &Path) -> Result<Findings, Box<dyn std::error::Error>> {
    let (run, checkpoint) = if RunRecord::is_in(folder) {
        let run = RunRecord::read(folder)?;
        let newest = run.newest.as_ref().map(|(_, path)| path.clone());
        (Some(run), newest)
    } else if folder.join(CONFIG_FILE).exists() {
        (None, Some(folder.to_owned()))
    } else {
        return Err(CheckpointError::not_a_model(folder).into());
    };
    let read = |path: PathBuf| Model::read(&path).map(|model| (path, model));
    Ok(Findings { run, checkpoint: checkpoint.map(read).transpose()? })
}

/// Writes all plots and returns their paths.
fn draw(findings: &Findings, folder: &Path) -> Result<Vec<PathBuf>, Box<dyn std::error::Error>> {
    let mut charts: Vec<(String, Chart)> = Vec::new();
    if let Some(run) = &findings.run {
        charts.extend(run_plots::charts(run));
        if run.measured_weights().is_empty() && run.measured_places() == 0 {
            output::note(run_plots::WITHOUT_INSTRUMENTS);
        }
    }
    if let Some((_, model)) = &findings.checkpoint {
        charts.extend(checkpoint_plots::charts(model));
    }
    fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let write = |(name, chart): (String, Chart)| {
        let path = folder.join(format!("{name}.svg"));
        chart.write_svg(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    };
    charts.into_iter().map(write).collect()
}

fn as_json(folder: &Path, findings: &Findings, drawn: &[PathBuf]) -> Result<Value, Box<dyn std::error::Error>> {
    let run = findings.run.as_ref().map(|run| summary::json(folder, run)).transpose()?;
    let checkpoint = findings.checkpoint.as_ref().map(|(path, _)| path.display().to_string());
    let tensors = findings.checkpoint.iter().flat_map(|(_, model)| &model.tensors);
    let tensors: Vec<Value> = tensors.map(table::json).collect();
    let plots: Vec<String> = drawn.iter().map(|path| path.display().to_string()).collect();
    Ok(json!({ "run": run, "checkpoint": checkpoint, "tensors": tensors, "plots": plots }))
}
