//! Crossing between program and loader: the address range, stubs and slots, blocks, registers saved and restored. Zone: call.
//!
//! Nothing here knows the meaning of any call. Above `memory`, below `tasks`; what runs between entering and leaving is named in
//! `upcalls`, and defined by `dispatch` and `delivery` at the top.

pub(crate) mod altstacks;
pub(crate) mod block;
pub(crate) mod claim;
pub(crate) mod dedicated;
pub(crate) mod dedications;
pub(crate) mod enter_asm;
pub(crate) mod gate_asm;
pub(crate) mod generation;
pub(crate) mod layout;
pub(crate) mod leave_asm;
pub(crate) mod pages;
pub(crate) mod pending;
pub(crate) mod policy;
pub(crate) mod pool;
pub(crate) mod record;
pub(crate) mod restorer;
pub(crate) mod slot_code;
pub(crate) mod slots;
pub(crate) mod step;
pub(crate) mod stubs;
pub(crate) mod unsaved;
mod upcalls;
