//! The program's code as it is patched. Zone: call.
//!
//! Above `signal`: traps need a signal. It notes what may pass unseen ([`concern`]); `backstop` and those above it decide.

mod apply;
pub(crate) mod concern;
pub(crate) mod notes;
pub(crate) mod patched;
pub(crate) mod patcher;
pub(crate) mod pun_pages;
pub(crate) mod reach;
pub(crate) mod job;
mod share;
pub(crate) mod stub_pool;
pub(crate) mod traps;
pub(crate) mod vdso;
