//! The loader's own system call instruction, first in the gate. Zone: call.
//!
//! It is the only `syscall` in the file: the stubs of patched sites are written at run time into the pools that
//! follow it (`linker/gate.ld`).

use crate::addr::GuestAddr;
use core::arch::naked_asm;

/// Executes a system call; returns `rax` as the kernel left it.
///
/// | on entry | psABI: edi number · rsi rdx rcx r8 r9 [rsp+8] arguments |
/// | on exit  | rax result · rcx, r11 and the argument registers clobbered, as the psABI allows |
/// | stack    | read only |
///
/// # Safety
///
/// The kernel does whatever the registers say.
#[unsafe(naked)]
#[unsafe(link_section = ".gate.code")]
pub(crate) unsafe extern "C" fn syscall(nr: u32, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> u64 {
    naked_asm!(
        ".cfi_startproc",
        "mov eax, edi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov r10, r8",
        "mov r8, r9",
        "mov r9, [rsp + 8]",
        "syscall",
        "ret",
        ".cfi_endproc",
    )
}

/// The first address of the gate.
#[must_use]
pub(crate) fn start() -> GuestAddr {
    GuestAddr((syscall as *const ()).expose_provenance() as u64)
}

/// Where in [`syscall`] the instruction of that name ends.
const END: u64 = 24;

/// The address after the loader's own system call instruction: what a seccomp filter sees.
#[must_use]
pub(crate) fn address_after() -> u64 {
    start().0 + END
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_sees_the_address_after_the_instruction() {
        let end = core::ptr::with_exposed_provenance::<u8>(address_after() as usize);
        // SAFETY: both bytes are of the function's code.
        assert_eq!(unsafe { [*end.sub(2), *end.sub(1)] }, [0x0f, 0x05]);
    }

    #[test]
    fn asks_the_kernel_with_all_six_arguments() {
        let mut bytes = [7_u8; 16];
        let here = (&raw mut bytes).addr() as u64;
        // pread64-like calls take four; mmap takes six and fails on a misaligned offset with EINVAL.
        // SAFETY: getpid touches no memory.
        assert_eq!(unsafe { syscall(39, 0, 0, 0, 0, 0, 0) }, u64::from(std::process::id()));
        // SAFETY: the mapping is refused, since its offset is not a multiple of the page size.
        let refused = unsafe { syscall(9, 0, 4096, 1, 0x22, u64::MAX, 1) };
        assert_eq!(refused.wrapping_neg(), 22);
        // SAFETY: getrandom writes into `bytes` only.
        assert_eq!(unsafe { syscall(318, here, 16, 0, 0, 0, 0) }, 16);
        assert_ne!(bytes, [7; 16]);
    }
}
