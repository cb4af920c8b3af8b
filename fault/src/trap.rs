//! Where a program error can be had on demand. In: a place and what is at work there. Out: nothing, or a panic.
//!
//! `WEIR_FAULT_TRAP=<trap>:<subject>`, as in `fold.row:pump`: the code panics at that place whenever it handles that
//! subject, before and after every restart, as an error in the program would.

use crate::named;

named! {
    /// A place that can panic.
    Trap {
        /// A column of a batch was taken into memory; the subject is its device.
        FoldRow = "fold.row",
        /// A series is about to be written to a file; the subject is its device.
        WriterSeries = "writer.series",
        /// The same, when it goes into one file with another device's.
        WriterTogether = "writer.together",
    }
}

/// Panics if that was asked for.
///
/// # Panics
/// By design.
#[cfg(debug_assertions)]
#[inline]
pub fn trap(trap: Trap, subject: &str) {
    use std::sync::LazyLock;

    static ORDERED: LazyLock<Option<(Trap, String)>> = LazyLock::new(ordered);
    if let Some((ordered, whom)) = &*ORDERED
        && *ordered == trap
        && whom == subject
    {
        panic!("a trap: {} met {subject}", trap.name());
    }
}

/// Nothing happens in an optimised build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn trap(_trap: Trap, _subject: &str) {}

#[cfg(debug_assertions)]
fn ordered() -> Option<(Trap, String)> {
    let order = std::env::var("WEIR_FAULT_TRAP").ok()?;
    let parsed = order.split_once(':').and_then(|(name, subject)| {
        let trap = Trap::named(name)?;
        Some((trap, subject.to_owned()))
    });
    assert!(parsed.is_some(), "WEIR_FAULT_TRAP={order}: no such trap");
    parsed
}
