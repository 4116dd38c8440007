//! Calls that come from elsewhere than the gate: Syscall User Dispatch, the loader's and the program's. Zone: call.

pub mod caught;
pub mod guest_sud;
pub mod int80;
pub mod selector_asm;
pub mod sud;
