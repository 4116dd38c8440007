//! The entry of the loader's SIGILL handler. Zone: call, on the stack that the kernel chose for the signal.

use crate::runtime::trap;
use core::arch::naked_asm;

/// Sends a trapped site to its stub, and every other SIGILL to the program's handler with nothing changed.
///
/// | on entry | rdi: signal · rsi: siginfo · rdx: ucontext · [rsp]: the restorer, as for any handler |
/// | on exit  | by `ret` to the restorer, or by a jump to the program's handler with rdi, rsi, rdx and rsp as on entry |
/// | stack    | 24 bytes below the frame, popped again |
///
/// # Safety
///
/// Reached only from the kernel's signal delivery.
#[unsafe(naked)]
pub unsafe extern "C" fn on_illegal_instruction() {
    naked_asm!(
        "push rdi",
        "push rsi",
        "push rdx", // rsp was 8 below a multiple of 16 (psABI 3.2.2): aligned now
        "mov rdi, rdx",
        "call {resolve}",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "test rax, rax",
        "jz 2f",
        "jmp rax",
        "2:",
        "ret",
        resolve = sym trap::resolve,
    )
}
