//! Every kernel of Evenkeel as a pair of neighbours: `NAME.wgsl`, and `NAME.rs` with its [`Card`].
//!
//! The file's stem is the kernel's name. To add a kernel, write the two files (or let
//! `cargo xtask new-kernel NAME` do it) and name it once in [`kernels!`] below: the harness in `tests/`
//! then checks every variant of it. Nothing here knows wgpu.

mod attention;
mod card;
mod exp;
mod matmul;
mod params;
mod precision;
mod rational;
mod reduce;
mod reflect;
pub mod segment;
mod source;
pub mod trial;
mod values;
mod vector;

pub use attention::MOST_HALF_HEAD;
pub use card::{
    Access, Arg, Backends, Card, Class, CpuArgs, CpuSlice, DType, Device, Needs, Variant, indices, read, read_write,
    write,
};
pub use params::{Param, Params, Value};
pub use precision::{Form, Half, Precision};
pub use reflect::{Binding, Element, Member, ReflectError, Reflection, reflect};
pub use source::{SourceError, expand};
pub use values::{Case, Fill, Values};

/// Calls the macro `$each` with the names of all kernels, in alphabetical order.
#[macro_export]
macro_rules! kernels {
    ($each:ident) => {
        $each! {
            accumulate,
            adamw,
            add,
            attention_bwd_delta,
            attention_bwd_kv,
            attention_bwd_q,
            attention_cached,
            attention_fwd,
            column_sum,
            convert,
            cross_entropy_bwd,
            cross_entropy_fwd,
            embedding_bwd,
            embedding_fwd,
            fill,
            gradient_clip,
            magnitude_median,
            matmul_nn,
            matmul_nt,
            matmul_tn,
            novograd,
            rational_bwd_coefficients,
            rational_bwd_x,
            rational_fwd,
            residual_rms_norm_fwd,
            rms_norm_bwd_w,
            rms_norm_bwd_x,
            rms_norm_fwd,
            rope_bwd,
            rope_cache_write,
            rope_fwd,
            scale,
            scale_by,
            segment_moments,
            segment_rescale,
            segment_statistics,
            segment_sum,
            squared_norm,
            step_metrics,
            sum,
            swiglu_bwd,
            swiglu_fwd,
        }
    };
}

macro_rules! declare {
    ($($name:ident),* $(,)?) => {
        $(pub mod $name;)*

        /// Every kernel's card, in alphabetical order.
        pub static CARDS: &[&Card] = &[$(&$name::CARD),*];
    };
}

kernels!(declare);

/// The card of the kernel called `name`.
pub fn card(name: &str) -> Option<&'static Card> {
    CARDS.iter().copied().find(|card| card.name == name)
}
