//! The adapter that the tests run on: what is there, or Mesa's software Vulkan, installed where that is possible.

use std::{env::consts::EXE_SUFFIX, path::Path, process::Command};

use crate::{cargo, run};

const INSTRUCTIONS: &str = "no Vulkan adapter: install a driver, then run this again. A software one will do:
  Debian, Ubuntu:  apt-get install mesa-vulkan-drivers
  Fedora:          dnf install mesa-vulkan-drivers
  Arch:            pacman -S vulkan-swrast";

/// Names the adapter.
pub(crate) fn find_or_install() -> Result<String, String> {
    // Everything, as the tests build it: less would select other features of its dependencies and compile them twice.
    run(cargo(&["build", "--workspace", "--all-targets"]))?;
    if let Some(adapter) = find(None)? {
        return Ok(adapter);
    }
    install()?;
    find(None)?.ok_or_else(|| INSTRUCTIONS.to_owned())
}

/// First line of `evenkeel devices`: the adapter that would be used; none if that is the CPU executor. With the manifest
/// of a driver: as if that were the only one.
pub(crate) fn find(driver: Option<&Path>) -> Result<Option<String>, String> {
    let fault = |error: std::io::Error| format!("evenkeel devices: cannot be started: {error}");
    let binary = std::env::current_exe().map_err(fault)?.with_file_name(format!("evenkeel{EXE_SUFFIX}"));
    let mut command = Command::new(binary);
    command.arg("devices");
    if let Some(driver) = driver {
        command.env("VK_DRIVER_FILES", driver);
    }
    let output = command.output().map_err(fault)?;
    if !output.status.success() {
        return Err(format!("evenkeel devices: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or_default().trim();
    Ok((!first.is_empty() && !first.starts_with("cpu")).then(|| first.to_owned()))
}

fn install() -> Result<(), String> {
    if !cfg!(target_os = "linux") || Command::new("apt-get").arg("--version").output().is_err() {
        return Err(INSTRUCTIONS.to_owned());
    }
    println!("no Vulkan adapter: installing mesa-vulkan-drivers (software Vulkan)");
    let installed = apt(&["update", "-qq"]).and_then(|()| apt(&["install", "-y", "-qq", "mesa-vulkan-drivers"]));
    installed.map_err(|error| format!("{error}\n{INSTRUCTIONS}"))
}

/// apt-get as root, or by a sudo that asks for no password.
pub(crate) fn apt(arguments: &[&str]) -> Result<(), String> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.starts_with(b"0"));
    let mut command = Command::new(if root { "apt-get" } else { "sudo" });
    if !root {
        command.args(["-n", "apt-get"]);
    }
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    run(command)
}
