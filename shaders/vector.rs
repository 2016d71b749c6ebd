//! CPU kernels at the width of this processor's vectors.

use pulp::Arch;

/// Runs `body`, compiled once for every vector width, at the widest that this processor has. The bits do not depend on it:
/// a compiler may reorder nothing in sums of floats, so loops of one element each are what becomes wider. What `body`
/// calls must be inlined to be compiled with it.
#[inline(always)]
pub(crate) fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(body)
}
