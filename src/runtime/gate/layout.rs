//! How much room each part of the gate has. Zone: call.

use crate::addr::PAGE;

/// Slots of the pool: calls that can wait for their exit hook at the same time.
pub(crate) const SLOTS: u32 = 4096;

/// Bytes of a slot's code, and of a record: a power of two, so that masking the instruction pointer finds the slot.
pub(crate) const SLOT_LEN: usize = 256;

/// Entries of the pool: those of one page.
pub(crate) const HANDLERS: usize = PAGE as usize / HANDLER_LEN;

/// Bytes of an entry.
pub(crate) const HANDLER_LEN: usize = 16;

/// Stubs that fit into the gate.
pub(crate) const STUBS: u32 = 65_536;
