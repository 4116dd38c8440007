//! Where code of the program's stands that the loader has written to, and the trampolines that lead from it to the gate.
//! Zone: call.
//!
//! A signal handler may ask at any time, so there is no lock: an entry is published by its start, and only ever shrinks
//! until it is gone. Changes need the patcher's lock. What is not in here has not been written to: a text that finds the
//! table full stays as it is.

use crate::addr::{AddrRange, GuestAddr};
use crate::plan::relay::Window;
use crate::runtime::code::share;
use core::sync::atomic::{AtomicU64, Ordering};

/// Ranges that can be known at the same time.
const CAPACITY: usize = 2048;

/// What a range holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// Code of a file's private mapping, to which nobody but the loader has written.
    FileText,
    /// Code of the program's.
    Text,
    /// Code of the program's that it may have written to since it was patched.
    WrittenText,
    /// Pages with sites that stay as they are, and have stubs.
    Caught,
    /// Trampolines.
    Trampolines,
}

impl Content {
    const fn to_word(self) -> u64 {
        match self {
            Self::FileText => 0,
            Self::Text => 1,
            Self::WrittenText => 2,
            Self::Caught => 3,
            Self::Trampolines => 4,
        }
    }

    const fn of_word(word: u64) -> Self {
        match word {
            0 => Self::FileText,
            1 => Self::Text,
            2 => Self::WrittenText,
            3 => Self::Caught,
            _ => Self::Trampolines,
        }
    }

    const fn is_text(self) -> bool {
        !matches!(self, Self::Trampolines)
    }
}

/// Ranges of readable memory.
#[derive(Debug)]
pub(crate) struct Patched {
    entries: [Entry; CAPACITY],
    len: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    /// 0 while it is free.
    start: AtomicU64,
    end: AtomicU64,
    content: AtomicU64,
    /// What was patched at once has one number: the text and all trampolines that it needs.
    patch: AtomicU64,
}

impl Entry {
    const fn new() -> Self {
        Self {
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
            content: AtomicU64::new(0),
            patch: AtomicU64::new(0),
        }
    }

    fn range(&self) -> AddrRange {
        let start = self.start.load(Ordering::Acquire);
        let end = if start == 0 { 0 } else { self.end.load(Ordering::Relaxed) };
        AddrRange::new(GuestAddr(start), GuestAddr(end))
    }

    fn content(&self) -> Content {
        Content::of_word(self.content.load(Ordering::Relaxed))
    }

    fn patch(&self) -> u64 {
        self.patch.load(Ordering::Relaxed)
    }

    fn is_text_of(&self, patch: u64) -> bool {
        self.content().is_text() && self.patch() == patch && !self.range().is_empty()
    }
}

impl Patched {
    /// None.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { entries: [const { Entry::new() }; CAPACITY], len: AtomicU64::new(0) }
    }

    fn used(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().take(self.len.load(Ordering::Acquire) as usize)
    }

    /// The texts that share a byte with `range`.
    pub(crate) fn texts(&self, range: AddrRange) -> impl Iterator<Item = (AddrRange, Content)> {
        self.used()
            .map(|entry| (entry.range(), entry.content()))
            .filter(move |(known, content)| known.overlaps(&range) && content.is_text())
    }

    /// How many ranges of trampolines there are.
    #[must_use]
    pub(crate) fn trampolines(&self) -> usize {
        self.used().filter(|entry| !entry.content().is_text() && !entry.range().is_empty()).count()
    }

    /// Whether a text shares a byte with `range`.
    #[must_use]
    pub(crate) fn overlaps(&self, range: AddrRange) -> bool {
        self.texts(range).next().is_some()
    }

    /// Whether one module may have so many more ranges.
    #[must_use]
    pub(crate) fn has_room_for(&self, wanted: usize) -> bool {
        let unused = CAPACITY - self.len.load(Ordering::Relaxed) as usize;
        let freed = || self.used().filter(|entry| entry.range().is_empty()).count();
        share::is_granted(wanted, unused, CAPACITY) || share::is_granted(wanted, unused + freed(), CAPACITY)
    }

    /// Adds a range of the patch with this number. Returns false if there is no room.
    pub(crate) fn insert(&self, range: AddrRange, content: Content, patch: u64) -> bool {
        let len = self.len.load(Ordering::Relaxed) as usize;
        let free = self.used().position(|entry| entry.range().is_empty()).unwrap_or(len);
        let Some(entry) = self.entries.get(free) else { return false };
        entry.end.store(range.end.0, Ordering::Relaxed);
        entry.content.store(content.to_word(), Ordering::Relaxed);
        entry.patch.store(patch, Ordering::Relaxed);
        entry.start.store(range.start.0, Ordering::Release);
        if free == len {
            self.len.store(len as u64 + 1, Ordering::Release);
        }
        true
    }

    /// Notes that the program may write to the texts in `range`.
    pub(crate) fn mark_written(&self, range: AddrRange) {
        let is_patched = |entry: &&Entry| entry.content().is_text() && entry.content() != Content::Caught;
        let entries = self.used().filter(|entry| is_patched(entry) && entry.range().overlaps(&range));
        entries.for_each(|entry| entry.content.store(Content::WrittenText.to_word(), Ordering::Relaxed));
    }

    /// Forgets what lies in `range`, but for the patch numbered `kept`. Returns false if what is left of a range could
    /// not be kept, and is forgotten too.
    pub(crate) fn remove(&self, range: AddrRange, kept: Option<u64>) -> bool {
        let mut is_exact = true;
        for entry in self.used() {
            let known = entry.range();
            if !known.overlaps(&range) || kept == Some(entry.patch()) {
                continue;
            }
            let keeps_front = known.start < range.start;
            if known.end > range.end {
                let rest = AddrRange::new(range.end, known.end);
                if keeps_front {
                    is_exact &= self.insert(rest, entry.content(), entry.patch());
                } else {
                    entry.start.store(rest.start.0, Ordering::Release);
                    continue;
                }
            }
            if keeps_front {
                entry.end.store(range.start.0, Ordering::Release);
            } else {
                entry.start.store(0, Ordering::Release);
            }
        }
        is_exact
    }

    /// Forgets one patch altogether: it has not come into force.
    pub(crate) fn remove_patch(&self, patch: u64) {
        let entries = self.used().filter(|entry| entry.patch() == patch && entry.content().is_text());
        entries.for_each(|entry| entry.start.store(0, Ordering::Release));
    }

    /// Takes out trampolines of texts that are no longer there, one range at a time.
    pub(crate) fn take_orphan(&self) -> Option<AddrRange> {
        let is_orphan = |entry: &&Entry| {
            let patch = entry.patch();
            !entry.content().is_text()
                && !entry.range().is_empty()
                && !self.used().any(|other| other.is_text_of(patch))
        };
        let entry = self.used().find(is_orphan)?;
        let range = entry.range();
        entry.start.store(0, Ordering::Release);
        Some(range)
    }

    /// The bytes at `at`, if it lies in one of the ranges; zeros past its end.
    #[must_use]
    pub(crate) fn window(&self, at: GuestAddr) -> Option<Window> {
        // What was never written to need not be readable.
        let patched = self.used().filter(|entry| entry.content() != Content::Caught);
        let range = patched.map(Entry::range).find(|range| range.contains(at))?;
        let mut window = [0; size_of::<Window>()];
        for (to, offset) in window.iter_mut().zip(0..range.end.0 - at.0) {
            // SAFETY: a thread is executing this code, so it is mapped; it was readable when it was patched.
            *to = unsafe { *core::ptr::with_exposed_provenance::<u8>((at.0 + offset) as usize) };
        }
        Some(window)
    }
}

/// Those of this memory. A fork keeps them.
static PATCHED: Patched = Patched::new();

/// The ranges that are known in this memory.
#[must_use]
pub(crate) fn known() -> &'static Patched {
    &PATCHED
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, end: u64) -> AddrRange {
        AddrRange::new(GuestAddr(start), GuestAddr(end))
    }

    #[test]
    fn shows_bytes_of_what_it_knows_up_to_the_end() {
        let code = [0xeb_u8, 5, 0x90, 0xc3];
        let at = GuestAddr(code.as_ptr().expose_provenance() as u64);
        let patched = std::boxed::Box::new(Patched::new());
        assert_eq!(patched.window(at), None);
        patched.insert(AddrRange::new(at, at.wrapping_add(4)), Content::FileText, 1);
        assert_eq!(patched.window(at).unwrap()[..5], [0xeb, 5, 0x90, 0xc3, 0]);
        assert_eq!(patched.window(at.wrapping_add(4)), None);
        patched.remove(AddrRange::new(at.wrapping_add(1), at.wrapping_add(2)), None);
        assert_eq!(patched.window(at).unwrap()[..2], [0xeb, 0]);
        assert_eq!(patched.window(at.wrapping_add(1)), None);
    }

    #[test]
    fn trampolines_are_orphans_once_their_text_is_gone() {
        let patched = std::boxed::Box::new(Patched::new());
        patched.insert(range(0x1000, 0x3000), Content::FileText, 1);
        patched.insert(range(0x9000, 0xa000), Content::Trampolines, 1);
        assert_eq!((patched.take_orphan(), patched.trampolines()), (None, 1));
        patched.remove(range(0x1000, 0x3000), None);
        assert_eq!(patched.take_orphan(), Some(range(0x9000, 0xa000)));
        assert_eq!((patched.take_orphan(), patched.trampolines()), (None, 0));
    }

    #[test]
    fn a_written_text_is_no_longer_its_files() {
        let patched = std::boxed::Box::new(Patched::new());
        patched.insert(range(0x1000, 0x3000), Content::FileText, 1);
        patched.mark_written(range(0x2000, 0x2001));
        let texts: std::vec::Vec<_> = patched.texts(range(0, 0x4000)).collect();
        assert_eq!(texts, [(range(0x1000, 0x3000), Content::WrittenText)]);
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_was_not_removed(removals in proptest::collection::vec((1_u64..40, 0_u64..12), 0..12)) {
            let patched = std::boxed::Box::new(Patched::new());
            patched.insert(range(5, 35), Content::FileText, 1);
            let mut left: std::vec::Vec<u64> = (5..35).collect();
            for (start, len) in removals {
                prop_assert!(patched.remove(range(start, start + len), None));
                left.retain(|at| !(start..start + len).contains(at));
            }
            let known = |at: &u64| patched.overlaps(range(*at, at + 1));
            prop_assert_eq!((1..60).filter(known).collect::<std::vec::Vec<_>>(), left);
        }
    }
}
