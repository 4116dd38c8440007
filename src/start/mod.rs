//! What an executable without libc must define once: entry point, allocator, last words, and the C symbols
//! that the prebuilt `core` and `alloc` expect. Zone: load.
//!
//! They cannot stand in the library itself, since a test process already has them; [`entry!`](crate::entry) puts
//! them into the executable, each a one-line door to a function of this folder.

pub(crate) mod entry_asm;
pub(crate) mod memory_asm;
pub(crate) mod panic;
pub(crate) mod start_asm;
