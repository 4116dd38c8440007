//! What is known of one instruction, whoever decoded it.

use crate::addr::GuestAddr;

/// The longest instruction the processor accepts, in bytes (SDM vol. 2A 2.3.11).
pub(crate) const MAX_LEN: usize = 15;

/// What an instruction does to the flow of control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// `syscall`, with whatever prefixes.
    Syscall,
    /// `int 0x80`, with whatever prefixes.
    Int80,
    /// A direct jump.
    Jump {
        /// Where it goes.
        target: GuestAddr,
    },
    /// A direct jump that may fall through: `jcc`, `loop`, `jrcxz`, `xbegin`.
    CondJump {
        /// Where it goes if it does not fall through.
        target: GuestAddr,
    },
    /// A call.
    Call {
        /// Where it goes, if it is direct.
        target: Option<GuestAddr>,
    },
    /// `ret` and its kin.
    Return,
    /// A jump through a register or memory.
    IndirectJump,
    /// An instruction that always faults or stops: `ud2`, `int3`, `hlt`.
    Trap,
    /// An instruction that does nothing, of any length.
    Nop,
    /// Whatever else; control goes to the next instruction.
    Other,
}

/// A decoded instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Insn {
    /// Its length in bytes, 1 to 15.
    pub len: u8,
    /// What it does to the flow of control.
    pub kind: Kind,
    /// Where its RIP-relative `disp32` lies, in bytes from its start.
    pub rip_disp_at: Option<u8>,
    /// Whether control always goes to the next instruction and nothing but its operands matters.
    pub straight: bool,
}

impl Kind {
    /// Whether it is a system call, of whatever table.
    #[must_use]
    pub(crate) const fn is_call_of_kernel(self) -> bool {
        matches!(self, Self::Syscall | Self::Int80)
    }
}

impl Insn {
    /// Whether control can reach the byte after it.
    #[must_use]
    pub(crate) const fn falls_through(&self) -> bool {
        !matches!(self.kind, Kind::Jump { .. } | Kind::Return | Kind::IndirectJump | Kind::Trap)
    }

    /// Whether a compiler's function can end with it: a call is its last instruction only if the callee does not
    /// return.
    #[must_use]
    pub(crate) const fn ends_function(&self) -> bool {
        !self.falls_through() || matches!(self.kind, Kind::Call { .. })
    }

    /// Where a direct branch goes, a call included.
    #[must_use]
    pub(crate) const fn target(&self) -> Option<GuestAddr> {
        match self.kind {
            Kind::Jump { target } | Kind::CondJump { target } => Some(target),
            Kind::Call { target } => target,
            _ => None,
        }
    }
}

/// Bytes that must be there: the longest instruction, and so every index below is in bounds.
pub(crate) const WINDOW: usize = 16;
