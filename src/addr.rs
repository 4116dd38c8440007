//! Addresses of the program's address space, as numbers that cannot be dereferenced by accident.
//!
//! A [`GuestAddr`] is an allegation: some header, register or argument says that something lies there.
//! Only the shell turns one into a pointer, where it knows why the memory is mapped.

use core::fmt;

/// The page size of x86-64 in bytes.
pub const PAGE: u64 = 4096;

/// An address in the program's address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct GuestAddr(pub u64);

impl GuestAddr {
    /// The address `len` bytes further on, or `None` past the end of the address space.
    #[must_use]
    pub const fn checked_add(self, len: u64) -> Option<Self> {
        match self.0.checked_add(len) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The address `len` bytes further on, modulo 2^64 as the processor computes it.
    #[must_use]
    pub const fn wrapping_add(self, len: u64) -> Self {
        Self(self.0.wrapping_add(len))
    }

    /// The address `len` bytes before, modulo 2^64 as the processor computes it.
    #[must_use]
    pub const fn wrapping_sub(self, len: u64) -> Self {
        Self(self.0.wrapping_sub(len))
    }

    /// The start of the page that holds this address.
    #[must_use]
    pub const fn page_floor(self) -> Self {
        Self(self.0 & !(PAGE - 1))
    }

    /// The `rel32` of a branch that ends at `end` and goes to this address, if it reaches.
    #[must_use]
    pub const fn rel32_from(self, end: Self) -> Option<i32> {
        let distance = self.0.wrapping_sub(end.0).cast_signed();
        if distance >= i32::MIN as i64 && distance <= i32::MAX as i64 { Some(distance as i32) } else { None }
    }

    /// The `rel8` of a branch that ends at `end` and goes to this address, if it reaches.
    #[must_use]
    pub const fn rel8_from(self, end: Self) -> Option<i8> {
        let distance = self.0.wrapping_sub(end.0).cast_signed();
        if distance >= i8::MIN as i64 && distance <= i8::MAX as i64 { Some(distance as i8) } else { None }
    }
}

impl fmt::Debug for GuestAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for GuestAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A half-open range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddrRange {
    /// The first address inside.
    pub start: GuestAddr,
    /// The first address past the end; not below `start`.
    pub end: GuestAddr,
}

impl AddrRange {
    /// The range from `start` to just before `end`; empty where `end` lies below `start`.
    #[must_use]
    pub fn new(start: GuestAddr, end: GuestAddr) -> Self {
        Self { start, end: end.max(start) }
    }

    /// How many bytes it spans.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether it spans no byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.end.0 == self.start.0
    }

    /// Whether `at` lies inside.
    #[must_use]
    pub fn contains(&self, at: GuestAddr) -> bool {
        self.start <= at && at < self.end
    }

    /// Whether the two share a byte.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// What the two share; empty if nothing.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }
}

/// `value` rounded down to a multiple of the page size.
#[must_use]
pub const fn page_floor(value: u64) -> u64 {
    value & !(PAGE - 1)
}

/// `value` rounded up to a multiple of the page size, or `None` if that overflows.
#[must_use]
pub const fn page_ceil(value: u64) -> Option<u64> {
    match value.checked_add(PAGE - 1) {
        Some(sum) => Some(sum & !(PAGE - 1)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_reaches_two_gigabytes_and_no_further() {
        let end = GuestAddr(0x7f00_0000_0000);
        assert_eq!(end.wrapping_add(0x7fff_ffff).rel32_from(end), Some(i32::MAX));
        assert_eq!(end.wrapping_add(0x8000_0000).rel32_from(end), None);
        assert_eq!(end.wrapping_sub(0x8000_0000).rel32_from(end), Some(i32::MIN));
        assert_eq!(end.wrapping_sub(0x8000_0001).rel32_from(end), None);
    }

    #[test]
    fn rounding_up_past_the_end_is_refused() {
        assert_eq!(page_ceil(u64::MAX), None);
        assert_eq!(page_ceil(1), Some(PAGE));
        assert_eq!(page_ceil(PAGE), Some(PAGE));
    }

    #[test]
    fn an_inverted_range_is_empty() {
        let range = AddrRange::new(GuestAddr(8), GuestAddr(4));
        assert!(range.is_empty());
        assert!(!range.contains(GuestAddr(8)));
    }
}
