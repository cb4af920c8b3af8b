//! Faults that tests order in a program that is otherwise the one users run: a SIGKILL at a named
//! point between sensor and stored row ([`point()`]), and a named mutation of the code that a test
//! must catch ([`mutant()`]).
//!
//! Both are read from the environment once, and exist only where debug assertions do: in an
//! optimised build the functions are empty and the variables mean nothing.
//!
//! | variable | value | effect |
//! |---|---|---|
//! | `WEIR_FAULT_KILL` | `<point>` or `<point>@<n>` | the process dies by SIGKILL when it passes that point for the n-th time |
//! | `WEIR_FAULT_MUTANT` | `<mutant>` | that mutation is active |
//! | `WEIR_FAULT_TRAP` | `<trap>:<subject>` | the code panics there whenever it handles that subject |
//!
//! An unknown name ends the program at its first use, so that a test cannot pass by a typing error.

mod mutant;
mod point;
mod trap;

pub use mutant::{Mutant, mutant};
pub use point::{Point, point};
pub use trap::{Trap, trap};

/// Declares an enum whose variants have names in the environment.
macro_rules! named {
    ($(#[$meta:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $type {
            $($(#[$doc])* $variant,)*
        }

        impl $type {
            /// Every one there is.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];

            /// What the environment calls it.
            pub const fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)*
                }
            }

            /// The one of that name.
            pub fn named(name: &str) -> Option<$type> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}
pub(crate) use named;
