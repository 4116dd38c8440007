//! The table of dedicated slots, as `enter_asm` reads it. Zone: call.

use core::sync::atomic::AtomicU64;

/// Pairs of stub and number that can have a slot; a power of two. The others take a record slot each time.
pub(crate) const ENTRIES: usize = 256;

/// Which slots are dedicated to what; read by `enter_asm`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Dedications {
    pub(super) entries: [Entry; ENTRIES],
}

#[repr(C, align(16))]
#[derive(Debug)]
pub(super) struct Entry {
    /// What names its calls (`dedicated::key_of`); 0 while there is no slot yet. Written last and once.
    pub(super) key: AtomicU64,
    /// The slot's code.
    pub(super) slot: AtomicU64,
}

impl Dedications {
    /// An empty table.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { entries: [const { Entry { key: AtomicU64::new(0), slot: AtomicU64::new(0) } }; ENTRIES] }
    }
}

/// The table of this process. A fork keeps it.
pub(super) static DEDICATIONS: Dedications = Dedications::new();

impl Default for Dedications {
    fn default() -> Self {
        Self::new()
    }
}
