//! Ctrl-C, SIGTERM and SIGHUP: the first asks a run to stop, the second ends the process.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{output, view};

/// Whether a run is to finish its step, write a checkpoint and stop.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    asked: AtomicBool,
}

impl Stop {
    /// Whether it was asked for.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Asks for it.
    pub(crate) fn ask(&self) {
        if self.is_first() {
            tell_stopping();
        }
    }

    fn is_first(&self) -> bool {
        !self.asked.swap(true, Ordering::Relaxed)
    }

    /// Does what a signal asks for: the second one ends the process at once, with the status that the signal has by
    /// default (130 after Ctrl-C, 143 after SIGTERM in a shell).
    pub(crate) fn signal(&self) {
        if self.is_first() {
            // The live view has a terminal to restore first, so that it keeps the handler. Before it is told: whoever
            // reads that may send the second one at once.
            if !view::is_open() {
                restore_default_actions();
            }
            tell_stopping();
            return;
        }
        view::close();
        restore_default_actions();
        end();
    }
}

fn tell_stopping() {
    output::note("stopping after this step; Ctrl-C once more stops at once");
}

/// What the first signal asks to stop.
pub(crate) fn stop_on_signals() -> Result<Arc<Stop>, ctrlc::Error> {
    let stop = Arc::new(Stop::default());
    let asked = Arc::clone(&stop);
    let handle = || ctrlc::set_handler(move || asked.signal());
    #[cfg(unix)]
    keep_ignoring_hangup(handle)?;
    #[cfg(not(unix))]
    handle()?;
    Ok(stop)
}

/// Whether SIGHUP means nothing here, as under nohup: such a run outlives its terminal.
#[cfg(unix)]
static HANGUP_IGNORED: AtomicBool = AtomicBool::new(false);

/// Sets the handlers; SIGHUP stays ignored where it was.
#[cfg(unix)]
fn keep_ignoring_hangup(handle: impl FnOnce() -> Result<(), ctrlc::Error>) -> Result<(), ctrlc::Error> {
    use nix::sys::signal::{SigHandler, Signal, signal};

    // SAFETY: ignoring a signal runs no code; what it did before is looked at and, if it was anything else, replaced.
    let ignore = || unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
    let ignored = matches!(ignore(), Ok(SigHandler::SigIgn));
    handle()?;
    if ignored {
        HANGUP_IGNORED.store(true, Ordering::Relaxed);
        let _ = ignore();
    }
    Ok(())
}

/// Has a file that grows beyond `ulimit -f` reported as an error of its writer, as a full disk is: by default the system
/// ends the process without a word.
#[cfg(unix)]
pub(crate) fn report_file_limits() {
    use nix::sys::signal::{SigHandler, Signal, signal};

    // SAFETY: ignoring a signal runs no code. Where it is refused the default stays.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

#[cfg(unix)]
fn restore_default_actions() {
    use nix::sys::signal::{SigHandler, Signal, signal};

    let hangup = (!HANGUP_IGNORED.load(Ordering::Relaxed)).then_some(Signal::SIGHUP);
    for caught in [Signal::SIGINT, Signal::SIGTERM].into_iter().chain(hangup) {
        // SAFETY: the default action runs no code of this process. Where it is refused the handler stays, and ends it.
        let _ = unsafe { signal(caught, SigHandler::SigDfl) };
    }
}

/// Windows keeps the handler, which ends the process.
#[cfg(not(unix))]
fn restore_default_actions() {}

/// Ends the process as Ctrl-C does.
fn end() -> ! {
    #[cfg(unix)]
    let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGINT);
    std::process::exit(130)
}

/// Whether Ctrl-C came since [`Interrupt::watch`].
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// While this lives the first Ctrl-C is noted; the second ends the process, and so does any before and after.
pub(crate) struct Interrupt(());

impl Interrupt {
    /// Begins to note.
    #[cfg(unix)]
    pub(crate) fn watch() -> Result<Self, nix::errno::Errno> {
        use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

        extern "C" fn note(_: std::ffi::c_int) {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
        INTERRUPTED.store(false, Ordering::Relaxed);
        // After the first signal the default action is back.
        let flags = SaFlags::SA_RESETHAND | SaFlags::SA_RESTART;
        let action = SigAction::new(SigHandler::Handler(note), flags, SigSet::empty());
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe { sigaction(Signal::SIGINT, &action) }?;
        Ok(Self(()))
    }

    /// Begins to note. A handler cannot be taken back here: one serves all.
    #[cfg(not(unix))]
    pub(crate) fn watch() -> Result<Self, ctrlc::Error> {
        use std::sync::OnceLock;

        static HANDLER: OnceLock<()> = OnceLock::new();
        if HANDLER.set(()).is_ok() {
            ctrlc::set_handler(|| {
                if INTERRUPTED.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            })?;
        }
        INTERRUPTED.store(false, Ordering::Relaxed);
        Ok(Self(()))
    }

    /// Whether it came.
    pub(crate) fn came(&self) -> bool {
        INTERRUPTED.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        #[cfg(unix)]
        restore_default_actions();
        // Elsewhere the next one ends the process, as it would by default.
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
}
