//! Pictures of a run at several sizes.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::Path};

use evenkeel_schedule::Role;
use evenkeel_train::{EvaluationRow, Measurement, Plan, StepRow, WeightStatistics};
use ratatui::{backend::TestBackend, buffer::Buffer, style::Color};

use super::*;
use crate::{pace::Pace, progress::Live};

fn plan() -> Plan {
    Plan {
        parameters: 920_000,
        bytes: vec![(Role::Parameter, 3_680_000), (Role::Activation, 20_000_000)],
        live_peak_bytes: 23_000_000,
        flops_per_step: 5_400_000_000,
        disk_bytes: 0,
    }
}

fn started(interval: u64) -> State {
    let live = Live { title: "llama nano, llvmpipe".to_owned(), interval };
    State::new(Path::new("runs/2026-11-24-002249"), live, 5000, &plan())
}

/// A matrix of role `index` in a layer: the deeper the smaller, growing over the steps.
fn std(index: usize, layer: usize, step: u64) -> WeightStatistics {
    let std = 0.02 / (layer as f64).sqrt() * (1.0 + step as f64 * 1e-4 * (index + 1) as f64);
    WeightStatistics { std, mean: 0.0, absmax: 0.1, update_ratio: 1e-3 }
}

fn measurement(step: u64) -> Measurement {
    let roles = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"];
    let inside = roles.iter().enumerate().flat_map(|(index, role)| {
        let name = move |layer: usize| format!("model.layers.{}.{role}.weight", layer - 1);
        (1..=4).map(move |layer| (name(layer), std(index, layer, step)))
    });
    let head = [("lm_head.weight".to_owned(), std(0, 1, step))];
    Measurement { weights: BTreeMap::from_iter(inside.chain(head)), residual_stream: Vec::new() }
}

/// A run of 5000 steps after 1234 of them.
fn running() -> State {
    let mut state = started(50);
    let mut pace = Pace::new(5000, plan().flops_per_step);
    for step in 1..=1234_u64 {
        let x = step as f64;
        // Quasi-random numbers in 0..1.
        let noise = (x * 0.618_034).fract();
        let row = StepRow {
            step,
            loss: 1.1 + 5.0 * (-x / 60.0).exp() + 0.9 * (-x / 900.0).exp() + 0.2 * (noise - 0.5),
            lr: 2e-3 * (x / 100.0).min(1.0),
            grad_norm: 0.4 + 0.3 * noise,
            tokens: step * 1024,
            tokens_per_s: 12_850.0 + 400.0 * noise,
            loss_scale: None,
            skipped: false,
            tvr_rescaled: None,
            measurement: step.is_multiple_of(50).then(|| measurement(step)),
        };
        pace.step(&row);
        state.step(&row, pace);
        if step % 200 == 0 {
            let valid_loss = row.loss + 0.05;
            state.evaluation(&EvaluationRow { step, valid_loss, valid_bpb: None });
            state.line(&format!("step {step}  validation loss {valid_loss:.4}"));
            state.line(&format!("checkpoint runs/2026-11-24-002249/checkpoints/step-{step:06}"));
        }
    }
    state
}

fn drawn(state: &State, width: u16, height: u16, color: bool) -> Buffer {
    let mut terminal = ratatui::Terminal::new(TestBackend::new(width, height)).unwrap();
    let moment = Moment { elapsed: Duration::from_secs(126), resident: Some(230_000_000) };
    terminal.draw(|frame| draw(frame, state, moment, Theme { color })).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let row = |y| -> String { (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect() };
    (0..buffer.area.height).map(|y| format!("{}\n", row(y).trim_end())).collect()
}

/// `EVENKEEL_BLESS=1` writes the picture anew.
fn assert_picture(name: &str, state: &State, [width, height]: [u16; 2]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/view/snapshots/{name}-{width}x{height}.txt"));
    let got = text(&drawn(state, width, height, true));
    if std::env::var_os("EVENKEEL_BLESS").is_some() {
        fs::write(&path, &got).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert!(expected == got, "{}: expected\n{expected}got\n{got}EVENKEEL_BLESS=1 accepts it", path.display());
}

#[test]
fn a_run_is_drawn_at_every_size() {
    let state = running();
    for size in [[80, 24], [60, 15], [200, 50], [38, 8]] {
        assert_picture("running", &state, size);
    }
    // What has no place is left out; nothing panics.
    for width in (0..130).step_by(3) {
        for height in 0..60 {
            drawn(&state, width, height, true);
            drawn(&started(0), width, height, true);
        }
    }
}

#[test]
fn a_run_before_its_first_step_is_drawn() {
    assert_picture("started", &started(50), [80, 24]);
    let text = text(&drawn(&started(0), 80, 24, true));
    assert!(text.contains("instruments.interval is 0"), "{text}");
}

#[test]
fn a_run_that_stops_says_so() {
    let state = State { stopping: true, ..running() };
    let text = text(&drawn(&state, 80, 24, true));
    assert!(text.contains("stopping after this step") && !text.contains("q or Ctrl-C"), "{text}");
}

#[test]
fn without_colours_no_cell_has_one() {
    let state = running();
    let colors = |color: bool| {
        let buffer = drawn(&state, 200, 50, color);
        buffer.content.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    assert_eq!(colors(false), 0);
    assert!(colors(true) > 100);
}

#[test]
fn keys_ask_for_what_they_say() {
    let of = |code, modifiers| action(KeyEvent::new(code, modifiers));
    assert!(matches!(of(KeyCode::Char('q'), KeyModifiers::NONE), Action::Stop));
    assert!(matches!(of(KeyCode::Char('c'), KeyModifiers::CONTROL), Action::Interrupt));
    assert!(matches!(of(KeyCode::Char('c'), KeyModifiers::NONE), Action::Nothing));
}
