//! Calls that come from elsewhere than the gate: Syscall User Dispatch, the loader's and the program's. Zone: call.

pub(crate) mod caught;
pub(crate) mod guest_sud;
pub(crate) mod int80;
pub(crate) mod selector_asm;
pub(crate) mod sud;
