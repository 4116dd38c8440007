//! The entries of the loader's own signal handlers. Zone: call, on the stack that the kernel chose for the signal.

use crate::runtime::{bad_call, trap};
use core::arch::naked_asm;

/// A handler that lets `$resolve` look at the frame, and then the program's handler, if it names one.
macro_rules! handler {
    ($(#[$doc:meta])* $name:ident, $resolve:path) => {
        $(#[$doc])*
        ///
        /// | on entry | rdi: signal · rsi: siginfo · rdx: ucontext · [rsp]: the restorer, as for any handler |
        /// | on exit  | by `ret` to the restorer, or by a jump to the program's handler with rdi, rsi, rdx and rsp as on entry |
        /// | stack    | 24 bytes below the frame, popped again |
        ///
        /// # Safety
        ///
        /// Reached only from the kernel's signal delivery.
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
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
                resolve = sym $resolve,
            )
        }
    };
}

handler!(
    /// Sends a trapped site to its stub, and every other SIGILL to the program's handler with nothing changed.
    on_illegal_instruction,
    trap::resolve
);

handler!(
    /// Sends a SIGSYS to the program's handler, with the site in the frame.
    on_bad_call,
    bad_call::resolve
);
