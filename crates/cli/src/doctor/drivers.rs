//! What to install where no hardware driver answers, by what Linux says of its devices and itself.

use std::{fs, path::Path};

/// Where the Vulkan loader finds its drivers.
const MANIFESTS: [&str; 3] = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
/// Numbers of vendors on the PCI bus.
const VENDORS: [(&str, &str); 3] = [("0x10de", "NVIDIA"), ("0x1002", "AMD"), ("0x8086", "Intel")];

/// Steps towards a driver, the most useful first.
pub(super) fn advice() -> Vec<String> {
    match std::env::consts::OS {
        "linux" => on_linux(&devices(), &fs::read_to_string("/etc/os-release").unwrap_or_default(), &drivers()),
        "windows" => vec!["DX12 and Vulkan come with the driver of the GPU's maker: update it".to_owned()],
        "macos" => vec!["Metal comes with macOS 11 and later; a virtual machine has none".to_owned()],
        _ => vec!["install a Vulkan driver".to_owned()],
    }
}

/// Names of the makers of this machine's GPUs.
fn devices() -> Vec<&'static str> {
    let cards = fs::read_dir("/sys/class/drm").into_iter().flatten().flatten();
    let vendors = cards.filter_map(|card| fs::read_to_string(card.path().join("device/vendor")).ok());
    let mut names: Vec<&str> = vendors
        .filter_map(|vendor| VENDORS.iter().find(|(number, _)| *number == vendor.trim()).map(|(_, name)| *name))
        .collect();
    if Path::new("/proc/driver/nvidia/version").exists() {
        names.push("NVIDIA");
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// The drivers that the Vulkan loader knows of.
fn drivers() -> Vec<String> {
    let files = MANIFESTS.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let names = files.filter_map(|file| Some(file.path().file_stem()?.to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn on_linux(devices: &[&str], os_release: &str, drivers: &[String]) -> Vec<String> {
    let is = |names: &[&str]| {
        let lines = os_release.lines().filter_map(|line| line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE=")));
        let ids: Vec<&str> = lines.flat_map(|ids| ids.trim_matches('"').split(' ')).collect();
        names.iter().any(|name| ids.contains(name))
    };
    let [loader, mesa] = if is(&["debian", "ubuntu"]) {
        ["apt-get install libvulkan1 vulkan-tools", "apt-get install mesa-vulkan-drivers"]
    } else if is(&["fedora", "rhel"]) {
        ["dnf install vulkan-loader vulkan-tools", "dnf install mesa-vulkan-drivers"]
    } else if is(&["arch"]) {
        ["pacman -S vulkan-icd-loader vulkan-tools", "pacman -S vulkan-radeon vulkan-intel vulkan-swrast"]
    } else {
        ["install the Vulkan loader and vulkan-tools", "install Mesa's Vulkan drivers"]
    };
    let mut advice = Vec::new();
    for device in devices {
        advice.push(match *device {
            "NVIDIA" => "NVIDIA GPU: install NVIDIA's driver with its Vulkan part (nvidia_icd.json)".to_owned(),
            maker => format!("{maker} GPU: {mesa}; the user must be in the group render"),
        });
    }
    if devices.is_empty() {
        advice.push("no GPU is visible here; in a container, pass it on (--device /dev/dri, or --gpus all)".to_owned());
    }
    if drivers.is_empty() {
        advice.push(format!("no Vulkan driver is installed: {loader}; {mesa} also has a software driver"));
    } else {
        advice
            .push(format!("installed drivers: {}; `vulkaninfo --summary` tells what they answer", drivers.join(", ")));
    }
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "WGPU_BACKEND"] {
        if let Ok(value) = std::env::var(variable) {
            advice.push(format!("{variable} is set to {value}, which hides other drivers"));
        }
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_of_the_system_and_its_devices() {
        let debian = "PRETTY_NAME=\"Debian\"\nID=debian\n";
        let text = on_linux(&[], debian, &[]).join("\n");
        assert!(text.contains("apt-get install mesa-vulkan-drivers") && text.contains("no GPU is visible"), "{text}");
        let text =
            on_linux(&["AMD", "NVIDIA"], "ID=nobara\nID_LIKE=\"rhel fedora\"\n", &["radeon".to_owned()]).join("\n");
        for part in ["AMD GPU: dnf install mesa-vulkan-drivers", "NVIDIA GPU", "installed drivers: radeon"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(on_linux(&["Intel"], "", &[]).join("\n").contains("Intel GPU: install Mesa's"));
    }
}
