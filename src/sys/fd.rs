//! The number of an open file. Zone: call.

/// A descriptor number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fd(pub(super) u32);

impl Fd {
    /// The descriptor that a program names in an argument: the low half counts (`int fd`).
    #[must_use]
    pub(crate) const fn from_argument(argument: u64) -> Self {
        Self(argument as u32)
    }

    /// As an argument of a call.
    #[must_use]
    pub(crate) const fn number(self) -> u64 {
        self.0 as u64
    }
}
