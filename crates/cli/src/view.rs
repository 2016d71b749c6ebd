//! The live view of a run: a full screen that a thread of its own draws a few times a second, so that it follows the
//! size of the terminal and listens to keys also while a step takes long.

mod draw;
mod panels;
mod state;
mod terminal;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::{output, signals::Stop};
use draw::{Theme, draw};
use state::Moment;
use terminal::Terminal;

pub(crate) use state::State;
pub(crate) use terminal::{close, is_open};

/// Time from one drawing to the next.
const FRAME: Duration = Duration::from_millis(250);
/// Longest time in which the end of the run is not noticed.
const NAP: Duration = Duration::from_millis(50);

/// Longest wait for the thread that draws.
const PATIENCE: Duration = Duration::from_secs(1);

/// A view that is open.
pub(crate) struct View {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    over: AtomicBool,
}

impl Shared {
    fn with<R>(&self, action: impl FnOnce(&mut State) -> R) -> R {
        action(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether a view can be shown here.
pub(crate) fn is_possible() -> bool {
    terminal::is_possible()
}

impl View {
    /// Opens the view of a run; from here on it takes what [`output::note`] says.
    ///
    /// # Errors
    /// A terminal that refuses.
    pub(crate) fn open(state: State, stop: Arc<Stop>) -> io::Result<Self> {
        let terminal = terminal::open()?;
        let shared = Arc::new(Shared { state: Mutex::new(state), over: AtomicBool::new(false) });
        listen(&shared);
        let drawn = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            // A terminal that is gone takes no more drawings; the run goes on.
            let _ = keep_drawing(terminal, &drawn, &stop);
            close();
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Changes what is shown.
    pub(crate) fn update(&self, action: impl FnOnce(&mut State)) {
        self.shared.with(action);
    }

    /// Closes the view and prints the last lines that it showed.
    pub(crate) fn end(mut self) {
        self.close();
    }

    fn close(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        // On a terminal that went away while it was read, crossterm reads on for ever: such a thread is left behind.
        let start = Instant::now();
        while !thread.is_finished() && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        close();
        for line in self.shared.with(|state| std::mem::take(&mut state.lines)) {
            output::note(&line);
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.close();
    }
}

/// Gives the view the lines about what goes on.
fn listen(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    output::divert(Some(Box::new(move |line| shared.with(|state| state.line(line)))));
}

/// Draws until the run is over or the terminal was given back.
fn keep_drawing(mut terminal: Terminal, shared: &Arc<Shared>, stop: &Stop) -> io::Result<()> {
    let (start, theme) = (Instant::now(), Theme::of_environment());
    let mut due = start;
    while is_open() && !shared.over.load(Ordering::Relaxed) {
        if terminal::has_event(NAP.min(due.saturating_duration_since(Instant::now())))? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => match action(key) {
                    Action::Stop => {
                        stop.ask();
                    }
                    Action::Interrupt => stop.signal(),
                    #[cfg(unix)]
                    Action::Suspend => match terminal::suspend(|| listen(shared))? {
                        Some(again) => terminal = again,
                        None => return Ok(()),
                    },
                    Action::Nothing => {}
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            due = Instant::now();
        }
        if Instant::now() >= due {
            let resident = memory_stats::memory_stats().map(|memory| memory.physical_mem as u64);
            let moment = Moment { elapsed: start.elapsed(), resident };
            shared.with(|state| {
                state.stopping = stop.asked();
                terminal::draw(&mut terminal, |frame| draw(frame, state, moment, theme))
            })?;
            due = Instant::now() + FRAME;
        }
    }
    Ok(())
}

enum Action {
    Stop,
    Interrupt,
    #[cfg(unix)]
    Suspend,
    Nothing,
}

fn action(key: KeyEvent) -> Action {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('q') => Action::Stop,
        KeyCode::Char('c') if control => Action::Interrupt,
        #[cfg(unix)]
        KeyCode::Char('z') if control => Action::Suspend,
        _ => Action::Nothing,
    }
}

#[cfg(test)]
mod tests;
