//! `evenkeel schedule`.

use crate::place::{Place, gpu};

#[test]
fn dump_shows_every_phase_and_the_memory_cpu() {
    let text = Place::new().run("schedule dump --adapter cpu --config tiny.toml").succeeded().stdout();
    assert!(text.lines().next().unwrap().contains("kernel"), "{text}");
    for part in ["embedding_fwd", "matmul_nt", "attention_bwd", "adamw", "layers.0.mlp", "model.norm.weight", "total"] {
        assert!(text.contains(part), "expected {part:?}, got\n{text}");
    }
}

#[test]
fn diff_finds_the_gpu_in_agreement() {
    let place = Place::new();
    let text = place.run(&format!("schedule diff --adapter {} --config tiny.toml", gpu())).succeeded().stdout();
    assert!(text.contains("kernels agree"), "{text}");
}

#[test]
fn diff_compares_an_adapter_with_the_cpu_only() {
    let place = Place::new();
    place.run("schedule diff --adapter cpu --config tiny.toml").refused(&["expected an adapter"]);
}
