//! `evenkeel doctor`.

use serde_json::Value;

use crate::place::{Finished, Place, gpu};

fn about<'a>(page: &'a Value, name: &str) -> &'a Value {
    page["findings"].as_array().unwrap().iter().find(|finding| finding["about"] == name).unwrap()
}

#[test]
fn a_sound_adapter_passes_gpu() {
    let place = Place::new();
    let finished = Finished::of(place.command(["doctor", "--json", "--adapter", gpu()])).succeeded();
    let page: Value = serde_json::from_str(&finished.stdout()).unwrap();
    assert_eq!((&page["ok"], finished.stdout().lines().count()), (&Value::Bool(true), 1));
    for name in ["engine", "limits", "features", "self-test", "matrices", "kernels", "would use", "memory"] {
        assert_eq!(about(&page, name)["state"], "ok", "{page}");
    }
    assert!(page["adapter"]["max_binding_bytes"].as_u64() >= Some(128 << 20), "{page}");
    let used = page["variants"].as_array().unwrap();
    assert!(used.iter().any(|step| step["kernel"] == "matmul_nt" && step["steps"].as_u64() > Some(0)), "{page}");
}

#[test]
fn without_a_driver_there_is_a_useful_page_cpu() {
    let place = Place::new();
    let mut command = place.command(["doctor"]);
    // The loader is shown a folder without drivers.
    command.env("VK_DRIVER_FILES", place.path("none.json")).env("VK_ICD_FILENAMES", place.path("none.json"));
    let finished = Finished::of(command).succeeded();
    let page = finished.stdout();
    if cfg!(target_os = "linux") {
        for part in ["note   adapter    none", "CPU executor", "VK_DRIVER_FILES is set", "ok     kernels"] {
            assert!(page.contains(part), "expected {part:?}, got\n{page}");
        }
        assert!(page.lines().filter(|line| line.contains("  - ")).count() >= 2, "{page}");
    }
}

#[test]
fn an_unknown_adapter_is_refused() {
    Place::new().run("doctor --adapter abacus").refused(&["abacus", "there are", "cpu"]);
}
