//! Ctrl-C, SIGTERM and SIGHUP: the first asks a run to stop, the second ends the process.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::output;

/// The flag that the first signal sets. A run finishes its step then and writes a checkpoint; a second signal ends the
/// process at once, with the status that the signal has by default (130 after Ctrl-C, 143 after SIGTERM in a shell).
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>, ctrlc::Error> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        // Two signals at once: the second came before it could act by itself.
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        restore_default_actions();
        output::note("stopping after this step; once more to stop at once");
    })?;
    Ok(stop)
}

#[cfg(unix)]
fn restore_default_actions() {
    use nix::sys::signal::{SigHandler, Signal, signal};

    for caught in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the default action runs no code of this process. Where it is refused the handler stays, and exits.
        let _ = unsafe { signal(caught, SigHandler::SigDfl) };
    }
}

/// Windows keeps the handler, which exits.
#[cfg(not(unix))]
fn restore_default_actions() {}
