//! Parts of other crates that panic on some files that lie: here their panic is an outcome, and nothing is printed of it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread runs such a part.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `run` on this thread; none where it panics. What it was changing then is not to be used again.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    // Every other panic is reported as it was before.
    HOOK.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !WITHIN.try_with(Cell::get).unwrap_or(false) {
                report(panic);
            }
        }));
    });
    let before = WITHIN.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    WITHIN.set(before);
    outcome.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_outcome() {
        assert_eq!(guarded(|| 3), Some(3));
        assert_eq!(guarded(|| -> u8 { panic!("within") }), None);
        assert_eq!(guarded(|| guarded(|| -> u8 { panic!("deeper") })), Some(None));
        assert!(!WITHIN.get());
    }
}
