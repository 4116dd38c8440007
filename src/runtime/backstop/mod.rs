//! Calls that come from elsewhere than the gate: Syscall User Dispatch, the loader's and the program's. Zone: call.
//!
//! Above `code`, by which it has caught sites patched; `calls` asks it before code gets the right to run.

pub(crate) mod caught;
pub(crate) mod guest_sud;
pub(crate) mod int80;
pub(crate) mod selector_asm;
pub(crate) mod sud;
