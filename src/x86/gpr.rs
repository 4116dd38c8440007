//! General registers, and what an instruction leaves in one.

use iced_x86::Register;

/// A general-purpose register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gpr(pub(super) Register);

impl Gpr {
    /// The register that holds a system call's number.
    pub(crate) const RAX: Self = Self(Register::RAX);

    /// The register that instructions call `number`, 0 to 15 (SDM vol. 2A, table 3-1).
    pub(super) fn of(number: u8) -> Option<Self> {
        use Register::{R8, R9, R10, R11, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP};
        const ALL: [Register; 16] =
            [RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15];
        ALL.get(usize::from(number)).copied().map(Self)
    }

    /// All sixteen.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..16).filter_map(Self::of)
    }

    /// The number that instructions call it by, 0 to 15.
    #[must_use]
    pub(crate) fn number(self) -> u8 {
        self.0.number() as u8
    }

    /// Whether a system call leaves it as it was (SDM vol. 2B, SYSCALL; `rax` gets the result).
    #[must_use]
    pub(crate) fn survives_call(self) -> bool {
        !matches!(self.0, Register::RAX | Register::RCX | Register::R11)
    }
}

/// What an instruction leaves in a register that it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    /// A constant. Such an instruction may be executed twice.
    Constant(u64),
    /// What another register holds.
    Copy(Gpr),
    /// Something that does not depend on what it held before.
    Set,
    /// Something that does, or a part of it is new.
    Altered,
}
