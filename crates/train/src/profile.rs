//! Where the time of training steps goes: by kernel, by scope, and as a trace for Perfetto (<https://ui.perfetto.dev>) or
//! `chrome://tracing`.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_schedule::{Schedule, Step, StepTime};
use serde_json::{Value, json};

use crate::HostTime;

/// One training step, kernel by kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct StepProfile {
    /// From 1.
    pub step: u64,
    /// Of the whole step, by the host's clock.
    pub time: Duration,
    /// Of making and writing its batches, by the host's clock.
    pub upload: Duration,
    /// Of its kernels, by the device's clock, in the order of their beginnings.
    pub times: Vec<StepTime>,
}

/// What some of the kernels of a step took together, on average.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Share {
    /// Dispatches per step.
    pub count: f64,
    /// Seconds per step.
    pub seconds: f64,
    /// Floating-point operations per step.
    pub flops: f64,
    /// Bytes read and written per step, with a perfect cache.
    pub bytes: f64,
}

/// Several steps of one schedule.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    steps: Vec<StepProfile>,
    /// Of the steps in between, which run as always.
    hosts: Vec<HostTime>,
}

impl Profile {
    /// Adds a step.
    pub fn push(&mut self, step: StepProfile) {
        self.steps.push(step);
    }

    /// Adds the host's share of a step that runs without a profile; the first one includes what drivers compile.
    pub fn note(&mut self, host: HostTime) {
        self.hosts.push(host);
    }

    /// Median seconds that the host worked for a step that ran without a profile, the first left out: for its batches, and
    /// for recording, inside of submits.
    pub fn host(&self) -> Option<[f64; 3]> {
        let mut hosts: Vec<_> =
            self.hosts.iter().skip(1).map(|host| [host.batches, host.record, host.submit]).collect();
        hosts.sort_by_key(|[batches, record, _]| *batches + *record);
        hosts.get(hosts.len() / 2).map(|host| host.map(|time| time.as_secs_f64()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Means over the steps, in seconds: the whole step, the upload, the kernels, and the gaps between the kernels.
    pub fn totals(&self) -> [f64; 4] {
        let mean = |of: &dyn Fn(&StepProfile) -> f64| self.steps.iter().map(of).sum::<f64>() / self.steps.len() as f64;
        let busy = |step: &StepProfile| step.times.iter().map(|time| time.ended - time.began).sum::<f64>();
        let gaps = |step: &StepProfile| {
            let pairs = step.times.windows(2).map(|pair| (pair[1].began - pair[0].ended).max(0.0));
            pairs.sum::<f64>()
        };
        [mean(&|step| step.time.as_secs_f64()), mean(&|step| step.upload.as_secs_f64()), mean(&busy), mean(&gaps)]
    }

    /// By kernel, the longest first.
    pub fn by_kernel(&self, schedule: &Schedule) -> Vec<(String, Share)> {
        self.shares(schedule, |step| step.card.name.to_owned())
    }

    /// By scope, layers taken together, the longest first.
    pub fn by_scope(&self, schedule: &Schedule) -> Vec<(String, Share)> {
        self.shares(schedule, |step| scope(&step.scope))
    }

    fn shares(&self, schedule: &Schedule, name: impl Fn(&Step) -> String) -> Vec<(String, Share)> {
        let mut shares: BTreeMap<String, Share> = BTreeMap::new();
        let each = 1.0 / self.steps.len().max(1) as f64;
        for time in self.steps.iter().flat_map(|step| &step.times) {
            let step = &schedule.steps()[time.step];
            let share = shares.entry(name(step)).or_default();
            share.count += each;
            share.seconds += each * (time.ended - time.began);
            share.flops += each * (step.card.flops)(&step.params) as f64;
            share.bytes += each * step.bytes() as f64;
        }
        let mut shares: Vec<_> = shares.into_iter().collect();
        shares.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        shares
    }

    /// Chrome's trace event format: a row of kernels and one of scopes, times in microseconds since the first kernel of
    /// each step, steps one after another.
    pub fn trace(&self, schedule: &Schedule) -> Value {
        let thread = |id: u64, name: &str| json!({ "ph": "M", "name": "thread_name", "pid": 1, "tid": id, "args": { "name": name } });
        let mut events = vec![thread(1, "kernels"), thread(2, "scopes"), thread(3, "steps")];
        let mut offset = 0.0;
        for profile in &self.steps {
            let Some((first, last)) = profile.times.first().zip(profile.times.last()) else { continue };
            let at = |seconds: f64| (offset + seconds - first.began) * 1e6;
            let span = |tid: u64, name: &str, began: f64, ended: f64, args: Value| {
                let (start, duration) = (at(began), (ended - began) * 1e6);
                json!({ "ph": "X", "pid": 1, "tid": tid, "name": name, "ts": start, "dur": duration, "args": args })
            };
            events.push(span(3, &format!("step {}", profile.step), first.began, last.ended, json!({})));
            for time in &profile.times {
                let step = &schedule.steps()[time.step];
                let seconds = time.ended - time.began;
                let args = json!({
                    "scope": step.scope,
                    "extents": step.params.to_string(),
                    "gflop_per_s": (step.card.flops)(&step.params) as f64 / seconds / 1e9,
                    "gb_per_s": step.bytes() as f64 / seconds / 1e9,
                });
                events.push(span(1, step.card.name, time.began, time.ended, args));
            }
            let same_scope =
                |a: &StepTime, b: &StepTime| schedule.steps()[a.step].scope == schedule.steps()[b.step].scope;
            for times in profile.times.chunk_by(same_scope) {
                let scope = &schedule.steps()[times[0].step].scope;
                events.push(span(2, scope, times[0].began, times[times.len() - 1].ended, json!({})));
            }
            offset += last.ended - first.began;
        }
        json!({ "displayTimeUnit": "ms", "traceEvents": events })
    }
}

/// The scope with a star for each number: what the layers have in common.
fn scope(scope: &str) -> String {
    let star = |part: &str| if part.parse::<u64>().is_ok() { "*".to_owned() } else { part.to_owned() };
    scope.split('.').map(star).collect::<Vec<_>>().join(".")
}
