//! Reading the fs base. Zone: call.

use core::arch::naked_asm;

/// Returns the thread's fs base: the program's thread pointer, a mere key for the loader.
///
/// | on entry | nothing |
/// | on exit  | rax: the base · nothing else changed |
///
/// # Safety
///
/// The kernel has enabled FSGSBASE (AT_HWCAP2 bit 1); without it the instruction is undefined.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn read_fs_base() -> u64 {
    naked_asm!("rdfsbase rax", "ret")
}
