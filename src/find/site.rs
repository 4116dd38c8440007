//! System call instructions as facts: where one is, what stands before it, and what is known of those that are none.

use core::fmt;

use crate::addr::{AddrRange, GuestAddr};

/// The bytes of glibc's, musl's and Go's return from a signal handler, `mov rax, 15; syscall`: unwinders and debuggers
/// recognise a signal frame by them (libgcc, config/i386/linux-unwind.h), so they stay as they are.
pub(crate) const RESTORER: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

/// A stretch of executable memory, or of a file that is about to be mapped so.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// Where the first byte runs.
    pub at: GuestAddr,
    /// The bytes as they are before any patch.
    pub bytes: &'a [u8],
}

impl<'a> Text<'a> {
    /// How far `at` is from the first byte, if it lies inside or just past the end.
    #[must_use]
    pub fn offset(&self, at: GuestAddr) -> Option<usize> {
        let offset = usize::try_from(at.0.checked_sub(self.at.0)?).ok()?;
        (offset <= self.bytes.len()).then_some(offset)
    }

    /// The `len` bytes at `at`, if all lie inside.
    #[must_use]
    pub fn slice(&self, at: GuestAddr, len: usize) -> Option<&'a [u8]> {
        let start = self.offset(at)?;
        self.bytes.get(start..start.checked_add(len)?)
    }

    /// Where all of it runs.
    #[must_use]
    pub fn range(&self) -> AddrRange {
        AddrRange::new(self.at, self.addr(self.bytes.len()))
    }

    /// The address `offset` bytes into the text.
    #[must_use]
    pub const fn addr(&self, offset: usize) -> GuestAddr {
        self.at.wrapping_add(offset as u64)
    }
}

/// An instruction's place and length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Its address.
    pub at: GuestAddr,
    /// Its length in bytes, 1 to 15.
    pub len: u8,
}

/// A proved system call instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Site {
    /// Its address, that of its first prefix if it has any.
    pub at: GuestAddr,
    /// Its length in bytes: two and its prefixes.
    pub len: u8,
    /// The instruction that falls through to it, if it is proved too.
    pub predecessor: Option<Span>,
}

impl Site {
    /// A site that nothing is known of but that it was executed.
    #[must_use]
    pub const fn executed(at: GuestAddr) -> Self {
        Self { at, len: 2, predecessor: None }
    }

    /// The address of its two opcode bytes, where a program may enter it too.
    #[must_use]
    pub const fn opcode(&self) -> GuestAddr {
        self.at.wrapping_add(self.len as u64).wrapping_sub(2)
    }

    /// The address after it, where the program goes on.
    #[must_use]
    pub const fn back(&self) -> GuestAddr {
        self.at.wrapping_add(self.len as u64)
    }
}

/// A pair of bytes `0f 05` or `cd 80`, and what is known of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// The address of the first of the two bytes.
    pub at: GuestAddr,
    /// What is known.
    pub verdict: Verdict,
}

/// What is known of a hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is a system call instruction.
    Site(Site),
    /// It lies inside another instruction.
    Inside(Span),
    /// It is the system call of a signal frame's restorer, which unwinders recognise by its bytes: they stay.
    Restorer,
    /// Neither could be shown.
    Unproved(Unproved),
}

/// A hit that is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unproved {
    /// Why nothing could be shown.
    pub reason: Reason,
    /// Whether the bytes around it read as code that makes a system call.
    pub is_plausible: bool,
}

/// Why nothing could be shown about a hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// No known function holds it, and no proved branch leads there.
    NoAnchor,
    /// No path from the start of its function leads to it.
    Unreached,
    /// A path through its function meets bytes that are no instruction.
    Undecodable,
    /// Two readings of its bytes are both reached.
    Overlap,
    /// Its function is too large to be decoded at start-up.
    TooLarge,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAnchor => "no known function holds it",
            Self::Unreached => "no path through its function leads to it",
            Self::Undecodable => "its function holds bytes that are no instruction",
            Self::Overlap => "its bytes can be read in two ways",
            Self::TooLarge => "its function is too large",
        })
    }
}
