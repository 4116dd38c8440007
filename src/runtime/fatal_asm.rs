//! The entry of the loader's handler for signals that end the process. Zone: call, on the stack that the kernel chose for
//! the signal.

use crate::runtime::fatal;
use core::arch::naked_asm;

/// Lets the tools have their last words on a stack of the loader's own, and sends the signal anew.
///
/// | on entry | rdi: signal · rsi: siginfo · rdx: ucontext · [rsp]: the restorer, as for any handler |
/// | on exit  | by `ret` to the restorer, which gives back every register |
/// | stack    | a few words below the frame: the program's may have no room for more |
///
/// # Safety
///
/// Reached only from the kernel's signal delivery.
#[unsafe(naked)]
pub unsafe extern "C" fn on_fatal_signal() {
    naked_asm!(
        "mov rbx, rsp", // callee-saved registers are ours until the restorer: they outlive the calls
        "mov r12, rsi",
        "sub rsp, 8", // rsp was 8 below a multiple of 16 (psABI 3.2.2): aligned now
        "call {stack}",
        "test rax, rax",
        "jz 2f", // another thread has it and says all there is to say
        "mov rsp, rax",
        "call {speak}",
        "2:",
        "lea rsp, [rbx - 8]", // aligned, as above
        "mov rdi, r12",
        "call {resend}",
        "mov rsp, rbx",
        "ret",
        stack = sym fatal::take_stack,
        speak = sym fatal::speak,
        resend = sym fatal::resend,
    )
}
