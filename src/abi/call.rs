//! One system call as a value, and what came of it.

use super::errno::Errno;

/// A system call as the program made it: a number and six argument registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// The number: the low half of `rax`, all that the kernel looks at (`do_syscall_64`).
    pub nr: u32,
    /// `rdi rsi rdx r10 r8 r9`, untouched.
    pub args: [u64; 6],
}

/// What a call left in `rax`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Outcome(pub u64);

impl Outcome {
    /// The outcome of a call that failed with `errno`.
    #[must_use]
    pub const fn failure(errno: Errno) -> Self {
        Self((errno.0 as u64).wrapping_neg())
    }

    /// The error, if `rax` lies in the last page of the address space (`IS_ERR_VALUE`, include/linux/err.h).
    #[must_use]
    pub const fn errno(self) -> Option<Errno> {
        let negated = self.0.wrapping_neg();
        if negated >= 1 && negated <= 4095 { Some(Errno(negated as u16)) } else { None }
    }
}
