//! `--adapter`, `devices`, and a machine without a Vulkan driver.

use crate::place::{Finished, Place, gpu};

/// A Vulkan loader that finds no driver.
fn without_driver(place: &Place, arguments: &str) -> Finished {
    let mut command = place.command(arguments.split_whitespace());
    command.env("VK_DRIVER_FILES", "/nonexistent.json").env("VK_ICD_FILENAMES", "/nonexistent.json");
    Finished::of(command)
}

#[test]
fn devices_has_an_adapter_first_and_the_cpu_executor_last_gpu() {
    let devices = Place::new().run("devices").succeeded().stdout();
    assert!(devices.lines().next().unwrap().starts_with(|c: char| c.is_alphanumeric()), "{devices}");
    for part in
        ["buffers up to", "workgroups of", "would use:", "matrix products", "cooperative matrices: ", "CPU executor"]
    {
        assert!(devices.contains(part), "expected {part:?}, got\n{devices}");
    }
    let named = Place::new().run(&format!("devices --adapter {}", gpu())).succeeded().stdout();
    assert!(named.lines().next().unwrap().contains(gpu()), "{named}");
}

#[test]
fn an_unknown_adapter_is_answered_by_what_there_is_gpu() {
    let place = Place::new();
    let parts = ["nonsense", gpu(), "cpu"];
    place.run("pretrain --adapter nonsense --config tiny.toml --out run").refused(&parts);
    place.run("devices --adapter nonsense").refused(&parts);
    assert_eq!(place.list("."), ["tiny.toml"]);
}

#[test]
fn the_first_line_of_a_run_is_its_adapter_gpu() {
    let place = Place::new();
    let arguments = ["pretrain", "--config", "tiny.toml", "--steps", "1", "--out", "run", "--adapter", gpu()];
    let mut command = place.command(arguments);
    // Desktops set it, servers do not, and drivers complain.
    command.env_remove("XDG_RUNTIME_DIR");
    let stderr = Finished::of(command).succeeded().stderr();
    assert!(stderr.lines().next().unwrap().contains(gpu()), "{stderr}");
    let software = stderr.lines().next().unwrap().contains("llvmpipe");
    assert_eq!(stderr.lines().nth(1).unwrap().contains("--adapter cpu is likely faster"), software, "{stderr}");
}

#[test]
#[cfg(target_os = "linux")]
fn without_a_driver_a_run_says_what_to_install_and_trains_on_the_cpu() {
    let place = Place::new();
    let stderr = without_driver(&place, "pretrain --config tiny.toml --out run").succeeded().stderr();
    let lines: Vec<_> = stderr.lines().collect();
    assert!(lines[0].contains("mesa-vulkan-drivers") && lines[0].contains("CPU executor"), "{stderr}");
    assert!(lines[1].starts_with("cpu") && lines[2].starts_with("run folder"), "{stderr}");
    assert_eq!(place.json("run/checkpoints/step-000004/trainer.json")["adapter"], "cpu");
    let devices = without_driver(&place, "devices").succeeded().stdout();
    assert!(devices.starts_with("cpu"), "{devices}");
    // What is asked for by name is not replaced.
    without_driver(&place, "pretrain --config tiny.toml --out other --adapter llvmpipe")
        .refused(&["llvmpipe", "none", "cpu"]);
    assert_eq!(place.list("."), ["run", "tiny.toml"]);
}
