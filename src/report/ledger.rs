//! Which code was looked at, which sites lead to the gate by which tactic, and which hits were left as they are.
//!
//! All of it is atomics in memory of a fixed size, of which all bytes zero is a valid value: one writes at a time, and a
//! process that ends reads whatever the others are doing. Counts are of what there is room for and of what there is not;
//! only lists end where the room does. Code of a file is known by its place in the file, so what is mapped again is not
//! counted again; code in memory without a file is one module, by its addresses.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use crate::addr::{AddrRange, GuestAddr};
use crate::find::site::{Reason, Unproved};
use crate::hook::text::SharedText;
use crate::plan::{RefusalReason, Tactic};

/// Modules that are told apart.
pub(crate) const MODULES: usize = 512;
/// Hits that can be listed.
pub(crate) const HITS: usize = 4096;
/// Stubs that sites can have.
pub(crate) const STUBS: usize = 1 << 16;
/// Bytes of a name; of a longer one the end is kept.
pub(crate) const NAME_MAX: usize = NAME_WORDS * 8 - 1;
const NAME_WORDS: usize = 32;

/// Where code comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A file; its code is known by offsets.
    File,
    /// The kernel's own image.
    Vdso,
    /// Memory without a file: whoever generates code. All of it under one name is one module.
    Memory,
}

impl Kind {
    const ALL: [Self; 3] = [Self::File, Self::Vdso, Self::Memory];
}

/// A text, as it is about to be noted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Where it comes from.
    pub kind: Kind,
    /// The file's path or the memory's name.
    pub name: &'a [u8],
    /// The inode of the file; 0 for others.
    pub inode: u64,
    /// Where in the file it starts; of memory, where it lies.
    pub offset: u64,
    /// Where it lies.
    pub range: AddrRange,
}

/// Whether a module's code is still where it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    /// Nobody knows.
    Unknown,
    /// It is.
    Mapped,
    /// It is not.
    Gone,
}

impl Presence {
    const ALL: [Self; 3] = [Self::Unknown, Self::Mapped, Self::Gone];
}

/// Why a hit is as the program's file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// It is neither proved nor disproved.
    Unproved(Unproved),
    /// It is proved and can't be replaced.
    Refused(RefusalReason),
    /// It is proved, and writing to it failed.
    Unwritten,
    /// Unwinders look for its bytes.
    Restorer,
}

/// A sort of [`Left`] that is counted by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sort {
    /// Left for unwinders.
    Restorer,
    /// Proved, and not replaced.
    Refused,
    /// Not proved, and reads as code.
    Plausible,
    /// Not proved, and reads as data.
    Implausible,
}

impl Sort {
    const ALL: [Self; 4] = [Self::Restorer, Self::Refused, Self::Plausible, Self::Implausible];
}

const REASONS: [Reason; 5] =
    [Reason::NoAnchor, Reason::Unreached, Reason::Undecodable, Reason::Overlap, Reason::TooLarge];
const REFUSALS: [RefusalReason; 4] =
    [RefusalReason::NotThere, RefusalReason::Taken, RefusalReason::NoStub, RefusalReason::GateTooWide];

impl Left {
    const UNWRITTEN: u32 = 0x20;
    const RESTORER: u32 = 0x21;

    /// As a number below 2^8.
    fn code(self) -> u32 {
        let index = |found: Option<usize>| found.map_or(0, |index| index as u32);
        match self {
            Self::Unproved(Unproved { reason, is_plausible }) => {
                index(REASONS.iter().position(|it| *it == reason)) << 1 | u32::from(is_plausible)
            }
            Self::Refused(reason) => 0x10 | index(REFUSALS.iter().position(|it| *it == reason)),
            Self::Unwritten => Self::UNWRITTEN,
            Self::Restorer => Self::RESTORER,
        }
    }

    fn of_code(code: u32) -> Option<Self> {
        let index = code as usize & 0xf;
        match code {
            0..0x10 => {
                let reason = *REASONS.get(index >> 1)?;
                Some(Self::Unproved(Unproved { reason, is_plausible: code & 1 != 0 }))
            }
            0x10..0x20 => REFUSALS.get(index).map(|reason| Self::Refused(*reason)),
            Self::UNWRITTEN => Some(Self::Unwritten),
            Self::RESTORER => Some(Self::Restorer),
            _ => None,
        }
    }

    /// What it is counted as.
    #[must_use]
    pub(crate) const fn sort(self) -> Sort {
        match self {
            Self::Restorer => Sort::Restorer,
            Self::Refused(_) | Self::Unwritten => Sort::Refused,
            Self::Unproved(Unproved { is_plausible: true, .. }) => Sort::Plausible,
            Self::Unproved(_) => Sort::Implausible,
        }
    }
}

/// Code of one origin.
#[repr(C)]
pub(crate) struct Module {
    /// One more than the index in [`Kind::ALL`]; 0 while the record is free.
    kind: AtomicU32,
    presence: AtomicU32,
    name: SharedText<NAME_WORDS>,
    inode: AtomicU64,
    offset: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
    /// By [`Tactic::index`].
    sites: [AtomicU32; Tactic::INDEX_END],
    left: [AtomicU32; Sort::ALL.len()],
}

impl Module {
    /// Where it comes from.
    #[must_use]
    pub(crate) fn kind(&self) -> Kind {
        let index = (self.kind.load(Acquire) as usize).saturating_sub(1);
        Kind::ALL.get(index).copied().unwrap_or(Kind::Memory)
    }

    /// Its name, whose end is kept if it is too long, and its length in bytes.
    #[must_use]
    pub(crate) fn name(&self) -> ([u8; NAME_MAX], usize) {
        let mut name = [0; NAME_MAX];
        let mut len = 0;
        for (to, from) in name.iter_mut().zip(self.name.bytes()) {
            *to = from;
            len += 1;
        }
        (name, len)
    }

    /// Where it was mapped last; of memory, the text that was noted last.
    #[must_use]
    pub(crate) fn range(&self) -> AddrRange {
        AddrRange::new(GuestAddr(self.start.load(Relaxed)), GuestAddr(self.end.load(Relaxed)))
    }

    /// Where in its file it starts.
    #[must_use]
    pub(crate) fn offset(&self) -> u64 {
        self.offset.load(Relaxed)
    }

    /// The inode of its file.
    #[must_use]
    pub(crate) fn inode(&self) -> u64 {
        self.inode.load(Relaxed)
    }

    /// Whether it is still there.
    #[must_use]
    pub(crate) fn presence(&self) -> Presence {
        Presence::ALL.get(self.presence.load(Relaxed) as usize).copied().unwrap_or(Presence::Unknown)
    }

    /// Sets whether it is still there.
    pub(crate) fn set_presence(&self, presence: Presence) {
        self.presence.store(presence as u32, Relaxed);
    }

    /// How many of its sites lead to the gate by this tactic.
    #[must_use]
    pub(crate) fn sites(&self, tactic: Tactic) -> u32 {
        self.sites.get(tactic.index()).map_or(0, |count| count.load(Relaxed))
    }

    /// How many of its sites lead to the gate.
    #[must_use]
    pub(crate) fn all_sites(&self) -> u32 {
        Tactic::all().map(|tactic| self.sites(tactic)).fold(0, u32::saturating_add)
    }

    /// How many of its hits are left for this sort of reason.
    #[must_use]
    pub(crate) fn left(&self, sort: Sort) -> u32 {
        self.left.get(sort as usize).map_or(0, |count| count.load(Relaxed))
    }

    fn is(&self, place: &Place<'_>) -> bool {
        let is_named = || self.name.bytes().eq(fitted(place.name).iter().copied());
        self.kind() == place.kind
            && match place.kind {
                Kind::File => {
                    let len = self.range().len();
                    let is_inside = place.offset.checked_sub(self.offset()).is_some_and(|into| into < len);
                    self.inode() == place.inode && is_inside && is_named()
                }
                Kind::Vdso | Kind::Memory => is_named(),
            }
    }

    /// Notes where it lies, unless that is only a piece of it.
    fn settle(&self, place: &Place<'_>) {
        let is_piece = place.kind == Kind::File && place.range.len() < self.range().len();
        if !is_piece {
            self.offset.store(place.offset, Relaxed);
            self.start.store(place.range.start.0, Relaxed);
            self.end.store(place.range.end.0, Relaxed);
        }
    }

    fn begin(&self, place: &Place<'_>) {
        self.name.set(fitted(place.name));
        self.inode.store(place.inode, Relaxed);
        self.settle(place);
        self.kind.store(place.kind as u32 + 1, Release);
    }
}

/// As much of the end of `name` as a record holds.
fn fitted(name: &[u8]) -> &[u8] {
    name.split_at_checked(name.len().saturating_sub(NAME_MAX)).map_or(name, |(_, end)| end)
}

/// A hit that stays as it is.
#[repr(C)]
struct Hit {
    /// Its module's number and its [`Left::code`] below; 0 while the record is free.
    key: AtomicU32,
    /// Its place in the file; of memory, its address.
    offset: AtomicU64,
}

/// All that is known of the code of a process.
#[repr(C)]
pub(crate) struct Ledger {
    modules: [Module; MODULES],
    modules_len: AtomicU32,
    /// Texts that found no record.
    texts_left_out: AtomicU32,
    hits_len: AtomicU32,
    /// By number: the module of a stub's site, and below it the tactic.
    stubs: [AtomicU32; STUBS],
    hits: [Hit; HITS],
}

impl Ledger {
    /// The modules, in the order in which they were met.
    #[must_use]
    pub(crate) fn modules(&self) -> &[Module] {
        let len = self.modules_len.load(Acquire) as usize;
        self.modules.get(..len).unwrap_or(&self.modules)
    }

    /// Texts of which nothing is known, since there was no room.
    #[must_use]
    pub(crate) fn texts_left_out(&self) -> u32 {
        self.texts_left_out.load(Relaxed)
    }

    /// The module that lies at `at`, and how far into its file that is; of memory, none is known by its address.
    #[must_use]
    pub(crate) fn module_at(&self, at: GuestAddr) -> Option<(&Module, u64)> {
        let is_it = |module: &&Module| module.kind() != Kind::Memory && module.range().contains(at);
        let module =
            self.modules().iter().filter(is_it).max_by_key(|module| module.presence() == Presence::Mapped)?;
        Some((module, module.offset() + (at.0 - module.range().start.0)))
    }

    /// The listed hits of the module at `index`: their places, and why they are left.
    pub(crate) fn hits(&self, index: usize) -> impl Iterator<Item = (u64, Left)> + Clone {
        let number = index as u32 + 1;
        let used = self.hits.get(..self.hits_len.load(Acquire) as usize).unwrap_or(&self.hits);
        used.iter().filter_map(move |hit| {
            let key = hit.key.load(Acquire);
            (key >> 8 == number).then_some(())?;
            Some((hit.offset.load(Relaxed), Left::of_code(key & 0xff)?))
        })
    }

    /// The module of a text that is looked at now, for [`Self::serve`] and [`Self::leave`]: what was known of hits there is
    /// forgotten. `None` if there is no room for one more.
    pub(crate) fn look(&self, place: &Place<'_>) -> Option<usize> {
        let known = self.modules().iter().position(|module| module.is(place));
        let index = known.unwrap_or_else(|| self.modules().len());
        let Some(module) = self.modules.get(index) else {
            self.texts_left_out.fetch_add(1, Relaxed);
            return None;
        };
        if known.is_some() {
            module.settle(place);
            self.forget(index, place);
        } else {
            module.begin(place);
            self.modules_len.store(index as u32 + 1, Release);
        }
        Some(index)
    }

    fn forget(&self, index: usize, place: &Place<'_>) {
        let number = index as u32 + 1;
        let Some(module) = self.modules.get(index) else { return };
        for hit in &self.hits {
            let key = hit.key.load(Relaxed);
            let is_there =
                hit.offset.load(Relaxed).checked_sub(place.offset).is_some_and(|it| it < place.range.len());
            if key >> 8 == number && is_there {
                hit.key.store(0, Release);
                add_left(module, Left::of_code(key & 0xff), u32::MAX);
            }
        }
    }

    /// The site of the stub numbered `stub` is one of that module's, and leads there by `tactic`.
    pub(crate) fn serve(&self, index: usize, stub: u32, tactic: Tactic) {
        let Some(record) = self.stubs.get(stub as usize) else { return };
        let key = (index as u32 + 1) << 8 | tactic.index() as u32;
        let before = record.swap(key, Relaxed);
        self.add_site(before, u32::MAX);
        self.add_site(key, 1);
    }

    fn add_site(&self, key: u32, more: u32) {
        let module = (key as usize >> 8).checked_sub(1).and_then(|index| self.modules.get(index));
        if let Some(count) = module.and_then(|module| module.sites.get(key as usize & 0xff)) {
            count.fetch_add(more, Relaxed);
        }
    }

    /// The hit at `offset` of that module's file, or address of its memory, stays as it is.
    pub(crate) fn leave(&self, index: usize, offset: u64, left: Left) {
        let Some(module) = self.modules.get(index) else { return };
        add_left(module, Some(left), 1);
        let free = self.hits.iter().position(|hit| hit.key.load(Relaxed) == 0);
        if let Some((at, hit)) = free.and_then(|at| Some((at, self.hits.get(at)?))) {
            hit.offset.store(offset, Relaxed);
            hit.key.store((index as u32 + 1) << 8 | left.code(), Release);
            self.hits_len.fetch_max(at as u32 + 1, Release);
        }
    }
}

fn add_left(module: &Module, left: Option<Left>, more: u32) {
    if let Some(count) = left.and_then(|left| module.left.get(left.sort() as usize)) {
        count.fetch_add(more, Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests;
