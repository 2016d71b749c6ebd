//! The folder where tokenizers and token shards of earlier runs are found again.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::DataError;

/// Names the folder in place of the system's.
const VARIABLE: &str = "EVENKEEL_CACHE";
/// The folder's name in the system's folder for temporary files.
const TEMPORARY: &str = "evenkeel-cache";

/// The cache folder: `EVENKEEL_CACHE`, or `evenkeel` in the system's folder for caches, or, where that cannot be
/// written, one of this user's in its folder for temporary files. Everything in it can be removed at any time at which
/// no run begins.
///
/// # Errors
/// No such folder that can be written.
pub(crate) fn folder() -> Result<PathBuf, DataError> {
    find(&|name| env::var_os(name), &env::temp_dir())
}

fn find(variable: &dyn Fn(&str) -> Option<OsString>, temporary: &Path) -> Result<PathBuf, DataError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let fault = |path: &Path, reason: &io::Error| DataError::Cache { path: path.into(), got: reason.to_string() };
    if let Some(folder) = set(VARIABLE) {
        return try_out(&folder).map(|()| folder.clone()).map_err(|reason| fault(&folder, &reason));
    }
    let home = |inside: &str| set("HOME").map(|home| home.join(inside));
    let caches = if cfg!(windows) {
        set("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home("Library/Caches")
    } else {
        set("XDG_CACHE_HOME").or_else(|| home(".cache"))
    };
    match caches.map(|caches| caches.join("evenkeel")).filter(|folder| try_out(folder).is_ok()) {
        Some(folder) => Ok(folder),
        None => own(temporary).map_err(|reason| fault(temporary, &reason)),
    }
}

/// Makes a folder if need be and writes a file there, which does not stay: its permissions alone do not say who may.
fn try_out(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    tempfile::tempfile_in(folder).map(drop)
}

/// A folder in the system's folder for temporary files that nobody else can have put data into.
#[cfg(unix)]
fn own(temporary: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    // A new file is the user's.
    let user = tempfile::tempfile_in(temporary)?.metadata()?.uid();
    let folder = temporary.join(format!("{TEMPORARY}-{user}"));
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = fs::symlink_metadata(&folder)?;
    if !metadata.is_dir() || metadata.uid() != user || metadata.mode() & 0o022 != 0 {
        let what = format!("{} there, which is no folder of this user's alone", folder.display());
        return Err(io::Error::other(what));
    }
    try_out(&folder).map(|()| folder)
}

/// The system's folder for temporary files is the user's.
#[cfg(not(unix))]
fn own(temporary: &Path) -> io::Result<PathBuf> {
    let folder = temporary.join(TEMPORARY);
    try_out(&folder).map(|()| folder)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(set: &[(&str, &Path)], temporary: &Path) -> Result<PathBuf, String> {
        let value = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, path)| path.as_os_str().to_owned());
        find(&value, temporary).map_err(|error| error.to_string())
    }

    #[test]
    fn the_variable_names_the_folder_or_is_at_fault() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/b");
        assert_eq!(found(&[(VARIABLE, &folder)], place.path()).unwrap(), folder);
        fs::write(place.path().join("file"), "").unwrap();
        let fault = found(&[(VARIABLE, &place.path().join("file"))], place.path()).unwrap_err();
        assert!(fault.contains("file: expected a cache folder that can be written, got "), "{fault}");
        assert!(fault.ends_with("; set EVENKEEL_CACHE to another folder"), "{fault}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn where_the_systems_folder_cannot_be_written_there_is_another() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let caches = place.path().join("caches");
        assert_eq!(found(&[("XDG_CACHE_HOME", &caches)], place.path()).unwrap(), caches.join("evenkeel"));
        // Here nobody can make a file, whatever the permissions.
        let system = Path::new("/sys/kernel");
        if system.is_dir() {
            assert!(!fs::metadata(system).unwrap().permissions().readonly() && try_out(system).is_err());
            fs::remove_dir(caches.join("evenkeel")).unwrap();
            std::os::unix::fs::symlink(system, caches.join("evenkeel")).unwrap();
            let other = found(&[("XDG_CACHE_HOME", &caches)], place.path()).unwrap();
            assert!(other.display().to_string().contains("evenkeel-cache-"), "{other:?}");
            assert_eq!(fs::metadata(&other).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_temporary_folder_of_others_is_not_used() {
        use std::os::unix::fs::{PermissionsExt, chown, symlink};
        let place = tempfile::tempdir().unwrap();
        let folder = found(&[], place.path()).unwrap();
        assert_eq!(found(&[], place.path()).unwrap(), folder);
        let refused = |what: &str| {
            let fault = found(&[], place.path()).unwrap_err();
            assert!(fault.contains("no folder of this user's alone; set EVENKEEL_CACHE"), "{what}: {fault}");
        };
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        refused("open to all");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        // Only the superuser can give it away.
        if chown(&folder, Some(12345), None).is_ok() {
            refused("another user's");
        }
        fs::remove_dir(&folder).unwrap();
        symlink(place.path(), &folder).unwrap();
        refused("a link");
    }
}
