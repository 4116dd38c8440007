//! Crossing between program and loader: the address range, stubs and slots, blocks, registers saved and restored. Zone: call.

pub mod altstacks;
pub mod block;
pub mod claim;
pub mod dedicated;
pub mod dedications;
pub mod enter_asm;
pub mod gate_asm;
pub mod generation;
pub mod layout;
pub mod leave_asm;
pub(crate) mod pages;
pub mod pending;
pub mod policy;
pub mod pool;
pub mod record;
pub mod restorer;
pub mod slot_code;
pub mod slots;
pub mod step;
pub mod stubs;
pub mod unsaved;
mod upcalls;
