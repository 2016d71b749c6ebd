//! Enums whose values are chosen by name, in a run file or a `config.json`.

/// Declares enums with the name of each value: `ALL`, `NAMES`, `name`, `named`, and (de)serialisation by name.
#[macro_export]
macro_rules! choices {
    ($($(#[$about:meta])+ $name:ident { $($(#[$meaning:meta])+ $variant:ident = $text:literal,)+ })+) => { $(
        $(#[$about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$meaning])+ #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every choice, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The names of all choices, in the same order.
            pub const NAMES: &[&'static str] = &[$($text),+];

            /// The name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The choice of this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|choice| choice.name() == name)
            }
        }
    )+ };
}
