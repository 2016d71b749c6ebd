//! A disk that is full.

#![cfg(unix)]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::place::{Finished, Place};

const STARTER: [&str; 4] = ["sh", "-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", "24"];

/// A small file system, where this process may mount one.
struct Mount(PathBuf);

impl Mount {
    fn new(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=128k", "tmpfs"]).arg(&path).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(path))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A run that finds the disk full; where nothing can be mounted, files that may not grow fail in the same calls.
#[test]
fn a_full_disk_ends_the_run_with_its_complete_checkpoints_cpu() {
    let place = Place::new();
    let mount = Mount::new(place.path("disk"));
    let starter = if mount.is_some() { &[][..] } else { &STARTER[..] };
    let arguments =
        "pretrain --adapter cpu --config tiny.toml --out disk/run --steps 100000 --set train.keep_checkpoints=0";
    let finished = Finished::of(place.started_by(starter, arguments.split_whitespace()));
    finished.refused(&["cannot write", "disk/run"]);
    for checkpoint in place.list("disk/run/checkpoints") {
        let model = format!("disk/run/checkpoints/{checkpoint}");
        place.run(&format!("generate --adapter cpu --model {model} --prompt a --max-new-tokens 1")).succeeded();
    }
    assert_eq!(place.list("disk/run/.partial"), [""; 0]);
}
