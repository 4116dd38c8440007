//! The program's code as it is patched. Zone: call.

pub mod concern;
pub mod notes;
pub mod patched;
pub mod patcher;
pub mod pun_pages;
pub mod reach;
pub mod stub_pool;
pub mod traps;
pub mod vdso;
