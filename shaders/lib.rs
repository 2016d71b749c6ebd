//! Every kernel of Evenkeel as a pair of neighbours: `NAME.wgsl`, and `NAME.rs` with its [`Card`].
//!
//! The file's stem is the kernel's name. To add a kernel, write the two files (or let
//! `cargo xtask new-kernel NAME` do it) and name it once in [`kernels!`] below: the harness in `tests/`
//! then checks every variant of it. Nothing here knows wgpu.

mod card;
mod params;
mod reflect;
mod source;
mod values;

pub use card::{
    Access, Arg, Backends, Card, Class, CpuArgs, CpuSlice, DType, Device, Needs, Variant, indices, read, read_write,
    write,
};
pub use params::{Param, Params, Value};
pub use reflect::{Binding, Element, Member, ReflectError, Reflection, reflect};
pub use source::{SourceError, expand};
pub use values::{Case, Fill, Values};

macro_rules! kernels {
    ($($name:ident),* $(,)?) => {
        $(pub mod $name;)*

        /// Every kernel's card, in alphabetical order.
        pub static CARDS: &[&Card] = &[$(&$name::CARD),*];
    };
}

kernels! {
    attention_fwd,
    rms_norm_fwd,
}

/// The card of the kernel called `name`.
pub fn card(name: &str) -> Option<&'static Card> {
    CARDS.iter().copied().find(|card| card.name == name)
}
