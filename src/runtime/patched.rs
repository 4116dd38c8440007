//! Where code of the program's stands that the loader has written to, and where jumps lead from it. Zone: call.
//!
//! A signal handler may ask at any time, so there is no lock: an entry is published by its start.

use crate::addr::{AddrRange, GuestAddr};
use crate::patch::relay::Window;
use core::sync::atomic::{AtomicU64, Ordering};

/// Ranges that can be known at the same time; what does not fit shows where a signal interrupted it.
const CAPACITY: usize = 2048;

/// Ranges of readable memory.
#[derive(Debug)]
pub struct Patched {
    starts: [AtomicU64; CAPACITY],
    ends: [AtomicU64; CAPACITY],
    len: AtomicU64,
}

impl Patched {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            starts: [const { AtomicU64::new(0) }; CAPACITY],
            ends: [const { AtomicU64::new(0) }; CAPACITY],
            len: AtomicU64::new(0),
        }
    }

    fn used(&self) -> impl Iterator<Item = (&AtomicU64, &AtomicU64)> {
        self.starts.iter().zip(&self.ends).take(self.len.load(Ordering::Acquire) as usize)
    }

    /// Adds a range. Needs the modules' lock.
    pub fn insert(&self, range: AddrRange) {
        let len = self.len.load(Ordering::Relaxed) as usize;
        let free = self.used().position(|(start, _)| start.load(Ordering::Relaxed) == 0).unwrap_or(len);
        let (Some(start), Some(end)) = (self.starts.get(free), self.ends.get(free)) else { return };
        end.store(range.end.0, Ordering::Relaxed);
        start.store(range.start.0, Ordering::Release);
        if free == len {
            self.len.store(len as u64 + 1, Ordering::Release);
        }
    }

    /// Forgets the ranges that lie in `range`. Needs the modules' lock.
    pub fn remove(&self, range: AddrRange) {
        for (start, end) in self.used() {
            let known = AddrRange::new(
                GuestAddr(start.load(Ordering::Relaxed)),
                GuestAddr(end.load(Ordering::Relaxed)),
            );
            if known.overlaps(&range) {
                start.store(0, Ordering::Release);
            }
        }
    }

    /// The bytes at `at`, if it lies in one of the ranges; zeros past its end.
    #[must_use]
    pub fn window(&self, at: GuestAddr) -> Option<Window> {
        let (_, end) = self.used().find(|(start, end)| {
            let start = start.load(Ordering::Acquire);
            start != 0 && start <= at.0 && at.0 < end.load(Ordering::Relaxed)
        })?;
        let len = end.load(Ordering::Relaxed) - at.0;
        let mut window = [0; size_of::<Window>()];
        for (to, offset) in window.iter_mut().zip(0..len) {
            // SAFETY: a thread is executing this code, so it is mapped; it was readable when it was patched.
            *to = unsafe { *core::ptr::with_exposed_provenance::<u8>((at.0 + offset) as usize) };
        }
        Some(window)
    }
}

impl Default for Patched {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_bytes_of_what_it_knows_up_to_the_end() {
        let code = [0xeb_u8, 5, 0x90, 0xc3];
        let at = GuestAddr(code.as_ptr().expose_provenance() as u64);
        let patched = std::boxed::Box::new(Patched::new());
        assert_eq!(patched.window(at), None);
        patched.insert(AddrRange::new(at, at.wrapping_add(4)));
        assert_eq!(patched.window(at).unwrap()[..5], [0xeb, 5, 0x90, 0xc3, 0]);
        assert_eq!(patched.window(at.wrapping_add(4)), None);
        patched.remove(AddrRange::new(at.wrapping_add(1), at.wrapping_add(2)));
        assert_eq!(patched.window(at), None);
    }
}
