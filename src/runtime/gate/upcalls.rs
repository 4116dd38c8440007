//! What the gate calls in between, by name: declared here, defined above in `dispatch` and `delivery`. Zone: call.
//!
//! The gate's assembly has to run the hooks, which know everything below them. So it names them as symbols that the linker
//! resolves to direct calls, and no room imports one that stands above it.

use crate::runtime::gate::block::Block;

unsafe extern "C" {
    /// Runs the enter hooks of the call in `block`, which came through a stub, and sets where it goes on.
    pub(super) fn loader_entered(block: &mut Block);

    /// Runs the exit hooks of the call that has returned in a record slot and whose area `block` names.
    pub(super) fn loader_returned(block: &mut Block);

    /// Runs the exit hook of the call that has returned in a dedicated slot and that its filter wants to be seen.
    pub(super) fn loader_filtered(block: &mut Block);

    /// Lands a signal, whose frame is at the stack pointer that `block` has saved. Returns 0 with where to go on in the
    /// block, or the address of the registers of loader code to resume.
    pub(super) fn loader_delivered(block: &mut Block) -> u64;

    /// At the end of a hook: makes `block` leave to the handlers of the signals that have waited for it.
    pub(super) fn loader_deliver_waiting(block: &mut Block);
}
