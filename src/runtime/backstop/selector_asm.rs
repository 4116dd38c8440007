//! Reading the byte that says whether a thread's calls are dispatched. Zone: call.

use core::arch::naked_asm;

/// Returns the byte at `at`. Its first instruction is the one that reads.
///
/// | on entry | rdi: the address |
/// | on exit  | eax: the byte · nothing else changed |
///
/// # Safety
///
/// A fault here ends the process, as [`crate::runtime::backstop::guest_sud::faults_at`] knows it.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn read_selector(at: u64) -> u32 {
    naked_asm!("movzx eax, byte ptr [rdi]", "ret")
}
