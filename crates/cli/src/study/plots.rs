//! Plots of a study: each arm in a colour, seeds behind their mean.

use std::path::Path;

use evenkeel_train::{
    TrainError,
    inspection::{Role, run::RunRecord},
    study::{ArmReport, Report, run_folder},
};

use crate::plots::{Chart, Color, Mark, Series, category, faint};

type Points = Vec<(f64, f64)>;

/// An arm with the records of its runs.
struct Runs<'a> {
    arm: &'a ArmReport,
    records: Vec<RunRecord>,
    color: Color,
}

/// All charts with the names of their files.
pub(super) fn charts(report: &Report, out: &Path) -> Result<Vec<(&'static str, Chart)>, TrainError> {
    let arms = read_runs(report, out)?;
    let steps = |name, title: &str, label, log_y, of: fn(&RunRecord) -> Points| {
        let series = over_steps(&arms, of);
        let any = series.iter().any(|series| !series.points.is_empty());
        any.then(|| (name, Chart::of_lines(title, ["step", label], log_y, series)))
    };
    let loss = "loss (nats per token)";
    let over_steps = [
        steps("validation_loss", "Validation loss, mean of the seeds", loss, false, validation_loss),
        steps("matrix_std", "Mean standard deviation of the matrices inside the layers", "std", true, matrix_std),
        steps("residual_absmax", "Largest magnitude of the residual stream", "max |h|", true, residual_absmax),
    ];
    let mut charts: Vec<_> = over_steps.into_iter().flatten().collect();
    let by_arm =
        |title: &str, label, series| Chart::of_lines(title, ["arm, in the order of the legend", label], false, series);
    charts.push(("final_loss", by_arm("Final validation loss of each seed", loss, final_losses(&arms))));
    let differences = differences(&arms);
    if !differences.is_empty() {
        let title =
            format!("Difference to {}: mean and {:.0} % interval", report.arms[0].name, 100.0 * report.confidence);
        charts.push(("difference", by_arm(&title, loss, differences)));
    }
    Ok(charts)
}

fn read_runs<'a>(report: &'a Report, out: &Path) -> Result<Vec<Runs<'a>>, TrainError> {
    let read = |arm: &ArmReport, seed| RunRecord::read(&run_folder(out, &arm.folder, seed));
    let runs = report.arms.iter().enumerate().map(|(i, arm)| {
        let records = report.seeds.iter().map(|&seed| read(arm, seed)).collect::<Result<_, _>>()?;
        Ok(Runs { arm, records, color: category(i) })
    });
    runs.collect()
}

/// A faint line for each seed, and over all of them a line for the mean of each arm.
fn over_steps(arms: &[Runs<'_>], of: fn(&RunRecord) -> Points) -> Vec<Series> {
    let lines: Vec<(Vec<Points>, &Runs<'_>)> =
        arms.iter().map(|runs| (runs.records.iter().map(of).collect(), runs)).collect();
    let seeds = lines
        .iter()
        .flat_map(|(seeds, runs)| seeds.iter().map(|points| Series::line("", faint(runs.color), points.clone())));
    let means = lines.iter().map(|(seeds, runs)| Series::line(runs.arm.name.clone(), runs.color, mean(seeds)));
    seeds.chain(means).collect()
}

/// The mean at each step that all seeds have.
fn mean(seeds: &[Points]) -> Points {
    let Some((first, others)) = seeds.split_first() else { return Vec::new() };
    let at = |&(x, y): &(f64, f64)| {
        let same = |points: &Points| points.iter().find(|point| point.0 == x).map(|point| point.1);
        let rest: f64 = others.iter().map(same).sum::<Option<f64>>()?;
        Some((x, (y + rest) / seeds.len() as f64))
    };
    first.iter().filter_map(at).collect()
}

fn series(run: &RunRecord, pointer: &str) -> Points {
    run.series(pointer).into_iter().map(|(step, value)| (step as f64, value)).collect()
}

fn validation_loss(run: &RunRecord) -> Points {
    series(run, "/valid_loss")
}

fn matrix_std(run: &RunRecord) -> Points {
    let inside = run.measured_weights().into_iter().filter(|name| Role::of(name).layer.is_some());
    let each: Vec<Points> = inside.map(|name| series(run, &format!("/weights/{name}/std"))).collect();
    mean(&each)
}

fn residual_absmax(run: &RunRecord) -> Points {
    let each = (0..run.measured_places()).map(|place| series(run, &format!("/residual_stream/{place}/absmax")));
    let larger = |a: Points, b: Points| a.iter().zip(&b).map(|(a, b)| (a.0, a.1.max(b.1))).collect();
    each.reduce(larger).unwrap_or_default()
}

fn final_losses(arms: &[Runs<'_>]) -> Vec<Series> {
    let of = |(i, runs): (usize, &Runs<'_>)| {
        let losses = runs.arm.validation_loss.iter().flatten();
        let points = losses.map(|&loss| ((i + 1) as f64, loss)).collect();
        Series::line(runs.arm.name.clone(), runs.color, points).marked(Mark::Dots)
    };
    arms.iter().enumerate().map(of).collect()
}

/// The interval of each arm, with a dot at either end and at the mean.
fn differences(arms: &[Runs<'_>]) -> Vec<Series> {
    let of = |(i, runs): (usize, &Runs<'_>)| {
        let difference = runs.arm.difference.as_ref()?;
        let [low, high] = difference.interval;
        let points = [low, difference.mean, high].map(|y| ((i + 1) as f64, y)).to_vec();
        Some(Series::line(runs.arm.name.clone(), runs.color, points).marked(Mark::Dots))
    };
    arms.iter().enumerate().filter_map(of).collect()
}
