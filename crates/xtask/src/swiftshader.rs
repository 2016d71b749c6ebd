//! SwiftShader, a second software Vulkan driver, so that every kernel is judged on two compilers: subgroups of 4 lanes
//! instead of 8, no f16, 256 lanes a workgroup, other rounding of exp and sin. It comes out of Debian's
//! `chromium-common`, unpacked below `target/` and never installed.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{adapter, adapter::apt};

/// What holds the driver; `chromium` itself is not needed.
const PACKAGE: &str = "chromium-common";

/// Where it lies in the package.
const FOLDER: &str = "usr/lib/chromium";
const MANIFEST: &str = "vk_swiftshader_icd.json";
const LIBRARY: &str = "libvk_swiftshader.so";

/// A driver that a Vulkan loader can be pointed at.
pub(crate) struct Driver {
    /// For the environment variable `VK_DRIVER_FILES`.
    pub(crate) manifest: PathBuf,
    /// The adapter's line.
    pub(crate) adapter: String,
}

/// The driver, downloaded where it is not there yet.
///
/// # Errors
/// Why it cannot be had: reason enough to go without.
pub(crate) fn find_or_download(target: &Path) -> Result<Driver, String> {
    let folder = target.join("swiftshader");
    let manifest = folder.join(MANIFEST);
    if !manifest.exists() {
        download(target, &folder)?;
    }
    match adapter::find(Some(&manifest))? {
        Some(adapter) if adapter.contains("SwiftShader") => Ok(Driver { manifest, adapter }),
        other => {
            Err(format!("{}: expected an adapter, got {}", manifest.display(), other.as_deref().unwrap_or("none")))
        }
    }
}

/// Into a folder beside, then renamed: what has the right name is whole.
fn download(target: &Path, folder: &Path) -> Result<(), String> {
    if !cfg!(target_os = "linux") || Command::new("apt-get").arg("--version").output().is_err() {
        return Err(format!("it is Debian's {PACKAGE}, and there is no apt-get"));
    }
    println!("downloading {PACKAGE} for SwiftShader ({ARCH}), once");
    let scratch = target.join("swiftshader.part");
    let fault = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let _ = fs::remove_dir_all(&scratch); // of a download that was stopped
    fs::create_dir_all(&scratch).map_err(|error| fault(&scratch, error))?;
    fetch(&scratch).or_else(|_| apt(&["update", "-qq"]).and_then(|()| fetch(&scratch)))?;
    let entries = fs::read_dir(&scratch).map_err(|error| fault(&scratch, error))?;
    let packages = entries.flatten().map(|entry| entry.path());
    let package = packages.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let package = package.ok_or_else(|| format!("{PACKAGE}: expected a package, got none"))?;
    crate::run(command("dpkg", &["-x", &package.to_string_lossy(), "unpacked"], &scratch))?;
    let driver = scratch.join("driver");
    fs::create_dir_all(&driver).map_err(|error| fault(&driver, error))?;
    for name in [LIBRARY, MANIFEST] {
        let from = scratch.join("unpacked").join(FOLDER).join(name);
        fs::rename(&from, driver.join(name)).map_err(|error| fault(&from, error))?;
    }
    fs::rename(&driver, folder).map_err(|error| fault(folder, error))?;
    fs::remove_dir_all(&scratch).map_err(|error| fault(&scratch, error))
}

fn fetch(folder: &Path) -> Result<(), String> {
    crate::run(command("apt-get", &["download", "-q", PACKAGE], folder))
}

fn command(program: &str, arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    command
}
