//! The first instructions of a child that runs an errand in its parent's memory. Zone: call, on a stack of its own.

use super::errand;
use core::arch::naked_asm;

/// Where the child goes when it returns from the gate, whose `ret` takes this address from the child's stack.
///
/// | on entry | [rsp]: the errand |
/// | on exit  | never |
/// | stack    | rsp is 16-aligned once the errand is taken |
///
/// # Safety
///
/// Reached only by that `ret`.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn begin() -> ! {
    naked_asm!(
        "pop rdi",
        "xor ebp, ebp", // the outermost frame
        "call {run}",
        "ud2", // the child never comes back
        run = sym errand::run,
    )
}
