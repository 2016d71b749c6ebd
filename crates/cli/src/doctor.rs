//! `evenkeel doctor`: what this machine can compute on, whether it computes it right, and what to do where it does not.

mod drivers;
mod kernels;

use std::{sync::Arc, thread::available_parallelism, time::Instant};

use evenkeel_gpu::{Adapter, AdapterSummary, Gpu, GpuError};
use evenkeel_shaders::Class;
use evenkeel_train::{
    Compute, Setup,
    settings::{Settings, Sources},
};
use serde_json::{Value, json};

use crate::{
    Outcome,
    adapter::{CPU, cooperative_matrices, unknown, uses},
    output::{self, size},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  evenkeel doctor\n  evenkeel doctor --adapter lavapipe --json\n\nExits with 1 where something fails."
)]
pub(crate) struct Arguments {
    /// One line of JSON in place of the page
    #[arg(long)]
    json: bool,
}

/// How a finding turned out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Not as good as it could be; training works.
    Note,
    Bad,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Bad => "failed",
        }
    }
}

/// One thing that was looked at.
struct Finding {
    about: &'static str,
    state: State,
    text: String,
    /// What to do about it.
    advice: Vec<String>,
}

#[derive(Default)]
struct Page {
    findings: Vec<Finding>,
    adapter: Option<AdapterSummary>,
    /// Kernel, variant, and steps of a training step that run it.
    used: Vec<(String, String, usize)>,
}

impl Page {
    fn say(&mut self, about: &'static str, state: State, text: impl Into<String>) -> &mut Finding {
        self.findings.push(Finding { about, state, text: text.into(), advice: Vec::new() });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    fn failed(&self) -> usize {
        self.findings.iter().filter(|finding| finding.state == State::Bad).count()
    }
}

/// Looks at the adapter that `text` asks for, or at the best one, and at the CPU executor.
pub(crate) async fn run(arguments: Arguments, text: Option<&str>) -> Outcome {
    let mut page = Page::default();
    let threads = available_parallelism().map_or(1, usize::from);
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    page.say("engine", State::Good, format!("evenkeel {}, {os} {arch}, {threads} threads", env!("CARGO_PKG_VERSION")));
    let gpu = if text == Some(CPU) { None } else { look_at_adapter(&mut page, text).await? };
    let compute = gpu.map_or(Compute::Cpu, Compute::Gpu);
    look_at_kernels(&mut page, &compute).await;
    look_at_schedule(&mut page, &compute);
    if arguments.json {
        output::line(&as_json(&page).to_string());
    } else {
        print(&page);
    }
    match page.failed() {
        0 => Ok(()),
        failed => {
            Err(format!("doctor: expected everything to work, got {failed} of {} findings failed", page.findings.len())
                .into())
        }
    }
}

/// Opens the adapter and tests it; none where there is none or it does not open.
async fn look_at_adapter(page: &mut Page, text: Option<&str>) -> Result<Option<Arc<Gpu>>, Box<dyn std::error::Error>> {
    let adapter = match evenkeel_gpu::select(text).await {
        Ok(adapter) => adapter,
        Err(GpuError::NoAdapter) => {
            let finding = page.say("adapter", State::Note, "none: training runs on the CPU executor");
            finding.advice = drivers::advice();
            return Ok(None);
        }
        Err(error) => return Err(unknown(&error)),
    };
    let summary = adapter.summary().clone();
    describe(page, &summary);
    let opened = open(page, &adapter).await;
    page.adapter = Some(summary);
    Ok(opened)
}

fn describe(page: &mut Page, adapter: &AdapterSummary) {
    let software = adapter.device.class == Class::Software;
    let finding = page.say("adapter", if software { State::Note } else { State::Good }, adapter.to_string());
    if software {
        finding.advice = vec!["a software driver: --adapter cpu is likely faster here".to_owned()];
        finding.advice.extend(drivers::advice());
    }
    page.say(
        "limits",
        State::Good,
        format!(
            "buffers up to {}, bindings up to {}, workgroups of {} lanes with {}",
            size(adapter.max_buffer_bytes),
            size(adapter.max_binding_bytes),
            adapter.max_workgroup_lanes,
            size(u64::from(adapter.max_workgroup_bytes)),
        ),
    );
    let (fewest, most) = adapter.subgroup_sizes;
    let features = if adapter.features.is_empty() { "none".to_owned() } else { adapter.features.join(", ") };
    page.say("features", State::Good, format!("{features}; subgroups of {fewest} to {most}; none is needed"));
}

async fn open(page: &mut Page, adapter: &Adapter) -> Option<Arc<Gpu>> {
    let start = Instant::now();
    let opened = match adapter.open().await {
        Ok(gpu) => evenkeel_gpu::self_test(&gpu).await.map(|()| gpu),
        Err(error) => Err(error),
    };
    match opened {
        Ok(gpu) => {
            let time = start.elapsed().as_millis();
            page.say("self-test", State::Good, format!("reduction, sum and matrix product are right ({time} ms)"));
            look_at_cooperative_matrices(page, &gpu).await;
            Some(Arc::new(gpu))
        }
        Err(error) => {
            let finding = page.say("self-test", State::Bad, error.to_string());
            finding.advice = vec!["update the driver, choose another adapter, or train with --adapter cpu".to_owned()];
            finding.advice.extend(drivers::advice());
            None
        }
    }
}

/// They are an option: without them, or with wrong ones, training works.
async fn look_at_cooperative_matrices(page: &mut Page, gpu: &Gpu) {
    let (state, text) = match gpu.test_cooperative_matrices().await {
        None => (State::Good, cooperative_matrices(gpu.adapter())),
        Some(Ok(_)) => (State::Good, format!("{}; here they pass it", cooperative_matrices(gpu.adapter()))),
        Some(Err(reason)) => (State::Note, format!("cooperative ones are not used: {reason}")),
    };
    page.say("matrices", state, text);
}

/// Every variant that the device can run against its card's reference, and the CPU kernels.
async fn look_at_kernels(page: &mut Page, compute: &Compute) {
    let gpu = match compute {
        Compute::Cpu => None,
        Compute::Gpu(gpu) => Some(gpu),
    };
    let verdict = kernels::check(gpu.map(|gpu| &**gpu)).await;
    let seconds = verdict.time.as_secs_f64();
    let name = verdict.summary();
    if verdict.faults.is_empty() {
        page.say("kernels", State::Good, format!("{name} agree with their references ({seconds:.1} s)"));
        return;
    }
    let finding = page.say("kernels", State::Bad, format!("{} of {name} are wrong", verdict.faults.len()));
    finding.advice = verdict.faults;
    finding.advice.push("a driver that computes wrongly: update it, or train with --adapter cpu".to_owned());
}

/// What a step of the default model would run.
fn look_at_schedule(page: &mut Page, compute: &Compute) {
    let setup = Settings::resolve(&Sources::default()).and_then(|settings| Setup::new(&settings, compute));
    let setup = match setup {
        Ok(setup) => setup,
        Err(error) => {
            page.say("schedule", State::Bad, error.to_string());
            return;
        }
    };
    let why = match compute {
        Compute::Cpu => "the CPU kernel of every card".to_owned(),
        Compute::Gpu(gpu) => uses(gpu.adapter()),
    };
    page.say("would use", State::Good, why);
    let schedule = &setup.program.schedule;
    for step in schedule.steps() {
        let variant = match compute {
            Compute::Cpu => "cpu",
            Compute::Gpu(gpu) => {
                let variant = step.card.variant(&gpu.profile(), &step.params, step.precision);
                variant.map_or("none", |variant| variant.name)
            }
        };
        match page.used.iter_mut().find(|(kernel, used, _)| kernel == step.card.name && used == variant) {
            Some((.., count)) => *count += 1,
            None => page.used.push((step.card.name.to_owned(), variant.to_owned(), 1)),
        }
    }
    page.used.sort();
    match compute.fits(schedule) {
        Ok(()) => {
            let bytes = size(schedule.memory().total_bytes());
            page.say("memory", State::Good, format!("the default run plans {bytes}, which fit"));
        }
        Err(error) => {
            page.say("memory", State::Bad, error.to_string());
        }
    }
}

fn print(page: &Page) {
    for finding in &page.findings {
        output::line(&format!("{:<7}{:<11}{}", finding.state.name(), finding.about, finding.text));
        for advice in &finding.advice {
            output::line(&format!("{:<18}- {advice}", ""));
        }
    }
    if page.adapter.is_some() {
        output::line("\nkernels of the default run's schedule, the variant that is used, and how often");
        for (kernel, variant, count) in &page.used {
            output::line(&format!("  {kernel:<28}{variant:<24}{count:>5}"));
        }
    }
}

fn as_json(page: &Page) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "about": finding.about,
            "state": finding.state.name(),
            "text": finding.text,
            "advice": finding.advice,
        })
    };
    let used = |(kernel, variant, count): &(String, String, usize)| json!({ "kernel": kernel, "variant": variant, "steps": count });
    let adapter = page.adapter.as_ref().map(|adapter| {
        json!({
            "name": adapter.name,
            "driver": adapter.driver,
            "driver_info": adapter.driver_info,
            "backend": adapter.backend,
            "features": adapter.features,
            "subgroup_sizes": [adapter.subgroup_sizes.0, adapter.subgroup_sizes.1],
            "max_buffer_bytes": adapter.max_buffer_bytes,
            "max_binding_bytes": adapter.max_binding_bytes,
            "max_workgroup_bytes": adapter.max_workgroup_bytes,
            "max_workgroup_lanes": adapter.max_workgroup_lanes,
        })
    });
    json!({
        "ok": page.failed() == 0,
        "engine_version": env!("CARGO_PKG_VERSION"),
        "adapter": adapter,
        "findings": page.findings.iter().map(finding).collect::<Vec<_>>(),
        "variants": page.used.iter().map(used).collect::<Vec<_>>(),
    })
}
