//! The folder where tokenizers and token shards of earlier runs are found again.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Names the folder in place of the system's.
const VARIABLE: &str = "EVENKEEL_CACHE";

/// The cache folder: `EVENKEEL_CACHE`, or `evenkeel` in the system's folder for caches, or, where that cannot be
/// written, in its folder for temporary files. Everything in it can be removed at any time at which no run begins.
pub(crate) fn folder() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set(VARIABLE) {
        return folder;
    }
    let home = |inside: &str| set("HOME").map(|home| home.join(inside));
    let caches = if cfg!(windows) {
        set("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home("Library/Caches")
    } else {
        set("XDG_CACHE_HOME").or_else(|| home(".cache"))
    };
    let usable = |folder: &PathBuf| fs::create_dir_all(folder).is_ok() && is_writable(folder);
    let folder = caches.map(|caches| caches.join("evenkeel")).filter(usable);
    folder.unwrap_or_else(|| env::temp_dir().join("evenkeel-cache"))
}

fn is_writable(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| !metadata.permissions().readonly())
}
