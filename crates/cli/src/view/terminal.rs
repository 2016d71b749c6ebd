//! The terminal while it belongs to the view, and its restoration on every way out.

use std::{
    io::{self, IsTerminal, Stderr, stderr, stdin},
    panic,
    sync::{
        Mutex, MutexGuard, Once,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use ratatui::{
    Frame,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        event, execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

use crate::output;

pub(super) type Terminal = ratatui::Terminal<CrosstermBackend<Stderr>>;

/// Whether the terminal is the view's.
static OPEN: AtomicBool = AtomicBool::new(false);
/// Held while something is drawn: nothing may come behind the restoration.
static DRAWING: Mutex<()> = Mutex::new(());
/// Longest wait for a drawing to end, in milliseconds; the thread that draws may be the one that panics.
const PATIENCE: u32 = 100;

/// Whether a view can be shown: on a terminal that moves its cursor and that this process has in the foreground (the
/// system stops a process in the background that changes its terminal).
pub(super) fn is_possible() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stderr().is_terminal() && !dumb && is_foreground()
}

#[cfg(unix)]
fn is_foreground() -> bool {
    fn owns(terminal: impl std::os::fd::AsFd) -> bool {
        nix::unistd::tcgetpgrp(terminal).is_ok_and(|group| group == nix::unistd::getpgrp())
    }
    owns(stderr()) && (!stdin().is_terminal() || owns(stdin()))
}

#[cfg(not(unix))]
fn is_foreground() -> bool {
    stdin().is_terminal()
}

/// Takes the terminal: keys without echo, the alternate screen, no cursor.
pub(super) fn open() -> io::Result<Terminal> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            close();
            report(panic);
        }));
    });
    enable_raw_mode()?;
    OPEN.store(true, Ordering::SeqCst);
    let opened = execute!(stderr(), EnterAlternateScreen, Hide)
        // The alternate screen begins empty; ratatui's `clear` would ask for the cursor's place, and some terminals never answer.
        .and_then(|()| ratatui::Terminal::new(CrosstermBackend::new(stderr())));
    opened.inspect_err(|_| close())
}

/// Whether the terminal is the view's.
pub(crate) fn is_open() -> bool {
    OPEN.load(Ordering::SeqCst)
}

/// Gives the terminal back as it was. Does nothing where it is not the view's.
pub(crate) fn close() {
    if !OPEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let _guard = wait_for_drawing();
    let _ = execute!(stderr(), Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
    output::divert(None);
}

fn wait_for_drawing() -> Option<MutexGuard<'static, ()>> {
    (0..PATIENCE).find_map(|_| DRAWING.try_lock().inspect_err(|_| sleep(Duration::from_millis(1))).ok())
}

/// Draws, unless the terminal was given back.
pub(super) fn draw(terminal: &mut Terminal, content: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
    let Ok(_guard) = DRAWING.lock() else { return Ok(()) };
    if is_open() {
        terminal.draw(content)?;
    }
    Ok(())
}

/// Waits for an event for so long at most. crossterm does not come back from a terminal that has gone away, so that the
/// system is asked first.
///
/// # Errors
/// A terminal that has gone away.
#[cfg(unix)]
pub(super) fn has_event(timeout: Duration) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;

    let stderr = stderr();
    let mut terminal = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
    match poll(&mut terminal, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let found = terminal[0].revents().unwrap_or(PollFlags::empty());
    if found.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // macOS' poll knows no terminals: it answers at once that the descriptor is invalid.
    event::poll(if found.contains(PollFlags::POLLNVAL) { timeout } else { Duration::ZERO })
}

#[cfg(not(unix))]
pub(super) fn has_event(timeout: Duration) -> io::Result<bool> {
    event::poll(timeout)
}

/// Gives the terminal back and stops the process as Ctrl-Z does; when it goes on in the foreground, takes it again.
#[cfg(unix)]
pub(super) fn suspend(again: impl FnOnce()) -> io::Result<Option<Terminal>> {
    close();
    let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGTSTP);
    if !is_possible() {
        return Ok(None);
    }
    again();
    open().map(Some)
}
