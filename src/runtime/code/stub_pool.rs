//! The gate's stubs: whose each is, and when it may be another's. Zone: load, and call with the patcher's lock held.
//!
//! A stub belongs to the address of its site. When the code there is gone it becomes *idle* and stays as it is; when code
//! is mapped there again, that site gets it back. So a thread that is in a call while the code that it came from is
//! replaced returns to where it came from, as natively, and to whatever is there now. All that may change in place is the
//! evicted instruction, and who is about to execute that stands, natively, at the very instruction that was replaced.
//!
//! For another site a stub must be empty. Nobody can enter an idle one, since nothing leads there any more, but a call may
//! be under way in it for hours, and on the way of calls nothing is counted. The one proof that costs nothing: where a
//! process has one thread, that is in no call but the one that it is making. With more threads, idle stubs wait.

use crate::abi::errno::Errno;
use crate::addr::{AddrRange, GuestAddr, PAGE};
use crate::find::site::Site;
use crate::plan::stub::{self, Again, Fields, Instruction};
use crate::plan::{self, Gate, Tactic};
use crate::runtime::code::share;
use crate::runtime::gate::{dedicated, enter_asm, layout, policy, restorer, stubs};
use crate::runtime::memory::code_writer::{self, LiveMemory};
use crate::runtime::tasks;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Stubs that fill one page.
const A_PAGE: u32 = PAGE as u32 / stub::LEN as u32;

const WORDS: usize = layout::STUBS as usize / 64;

/// Which stubs are whose.
#[derive(Debug)]
pub(crate) struct Stubs {
    /// The first that has never been anybody's.
    next: u32,
    has_restorer: bool,
    /// One bit a stub.
    idle: [u64; WORDS],
    idle_len: u32,
    /// The stub of the call whose hook runs; the restorer's before the program starts.
    pub caller: u32,
}

impl Stubs {
    /// All are free.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { next: 0, has_restorer: false, idle: [0; WORDS], idle_len: 0, caller: restorer::RESTORER_STUB }
    }

    /// The stubs that stand for a site, with what they are made of.
    pub(crate) fn active(&self) -> impl Iterator<Item = (u32, Fields<'_>)> {
        self.written()
            .filter(|&index| !self.is_idle(index))
            .filter_map(|index| Some((index, stubs::fields(index)?)))
    }

    /// Those of [`Self::active`] whose site lies in `range`.
    pub(crate) fn active_in(&self, range: AddrRange) -> impl Iterator<Item = (u32, Fields<'_>)> {
        self.written()
            .filter(move |&index| range.contains(stubs::last_byte(index)) && !self.is_idle(index))
            .filter_map(|index| Some((index, stubs::fields(index)?)))
    }

    fn written(&self) -> impl Iterator<Item = u32> + use<> {
        restorer::RESTORER_STUB + 1..self.next
    }

    /// Whether nothing leads to a stub any more.
    #[must_use]
    pub(crate) fn is_idle(&self, index: u32) -> bool {
        self.idle.get(index as usize / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn set_idle(&mut self, index: u32, is_idle: bool) {
        if self.is_idle(index) == is_idle {
            return;
        }
        if let Some(word) = self.idle.get_mut(index as usize / 64) {
            *word ^= 1 << (index % 64);
            self.idle_len = if is_idle { self.idle_len + 1 } else { self.idle_len - 1 };
        }
    }

    /// The code in `range` is gone, or is its own again: nothing leads to its stubs.
    pub(crate) fn retire(&mut self, range: AddrRange) {
        for index in self.written() {
            if range.contains(stubs::last_byte(index)) {
                self.set_idle(index, true);
            }
        }
    }

    /// As [`Self::retire`], one by one.
    pub(crate) fn retire_each(&mut self, indices: &[u32]) {
        indices.iter().for_each(|&index| self.set_idle(index, true));
    }

    /// Takes a stub for each of the `sites`, which lie in `text`; `None` where there is none left. They are to be written
    /// through `memory`.
    pub(crate) fn assign(
        &mut self,
        sites: &[Site],
        text: AddrRange,
        memory: Option<&LiveMemory>,
    ) -> Vec<Option<GuestAddr>> {
        if memory.is_none() {
            // Pages in which nobody can be yet can still be written.
            self.next = self.next.next_multiple_of(A_PAGE);
        }
        let is_writable = memory.is_some();
        let own = if is_writable { self.idle_of(text) } else { BTreeMap::new() };
        let mut spare = if is_writable { self.empty(sites.len(), text) } else { Vec::new() };
        let unused = layout::STUBS.saturating_sub(self.next) as usize;
        let free = own.len() + spare.len() + unused;
        let granted = share::granted(sites.len(), free, layout::STUBS as usize);
        let assigned = sites.iter().zip(0..).map(|(site, place)| {
            if place >= granted {
                return None;
            }
            let index =
                own.get(&site.back()).copied().or_else(|| spare.pop()).or_else(|| self.take_fresh())?;
            self.set_idle(index, false);
            Some(stubs::in_stub(index, 0))
        });
        assigned.collect()
    }

    /// The idle stubs of sites in `text`, by their way back.
    fn idle_of(&self, text: AddrRange) -> BTreeMap<GuestAddr, u32> {
        if self.idle_len == 0 {
            return BTreeMap::new();
        }
        let idle =
            self.written().filter(|&index| self.is_idle(index) && text.contains(stubs::last_byte(index)));
        idle.map(|index| (stubs::way_back(index), index)).collect()
    }

    /// Up to `wanted` idle stubs of sites outside of `text` in which no thread can be.
    fn empty(&self, wanted: usize, text: AddrRange) -> Vec<u32> {
        if self.idle_len == 0 || !tasks::is_only_thread() {
            return Vec::new();
        }
        let is_empty = |&index: &u32| {
            self.is_idle(index) && index != self.caller && !text.contains(stubs::last_byte(index))
        };
        self.written().filter(is_empty).take(wanted).collect()
    }

    /// Whether a site that is only known because it was caught could get a stub: the last ones are for texts.
    pub(crate) fn has_room_for_caught(&self) -> bool {
        let unused = layout::STUBS.saturating_sub(self.next) as usize;
        share::leaves_some(unused, layout::STUBS as usize) || self.idle_len != 0 && tasks::is_only_thread()
    }

    fn take_fresh(&mut self) -> Option<u32> {
        let index = self.next.max(restorer::RESTORER_STUB + 1);
        (index < layout::STUBS).then(|| self.next = index + 1)?;
        Some(index)
    }

    /// What was [`Self::assign`]ed and is not among `used` is nobody's.
    pub(crate) fn give_back(&mut self, assigned: &[Option<GuestAddr>], used: &[plan::Stub]) {
        for at in assigned.iter().flatten() {
            self.set_idle(stubs::index_of(*at), true);
        }
        for stub in used {
            self.set_idle(stubs::index_of(stub.at), false);
        }
    }

    /// Makes a stub for a site that stays as it is; returns where it is entered, or `None` if there is none left.
    pub(crate) fn make(&mut self, site: Site, instruction: Instruction) -> Option<GuestAddr> {
        let text = AddrRange::new(site.at, site.back());
        let memory = LiveMemory::open().ok();
        let at = self.assign(&[site], text, memory.as_ref()).pop()??;
        let Gate { policy, hooked, .. } = gate();
        let (back, site_len, again) = (site.back(), site.len, Again::Site);
        let fields = Fields { at, instruction, evicted: &[], policy, hooked, back, site_len, again };
        let stub = plan::Stub { at, bytes: stub::build(&fields)?, site, tactic: Tactic::TRAP, evicted: None };
        match self.write(&[stub], memory.as_ref()) {
            Ok(()) => Some(stub.plain_entry()),
            Err(_) => {
                self.set_idle(stubs::index_of(at), true);
                None
            }
        }
    }

    /// Writes the stub that is no site's.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn write_restorer(&mut self) -> Result<(), Errno> {
        // Before others are assigned: those of a page are written at once where there is no other way.
        self.next = self.next.max(restorer::RESTORER_STUB + 1);
        self.write(&[], LiveMemory::open().ok().as_ref())
    }

    /// Writes `stubs` into the gate, as they were [`Self::assign`]ed.
    ///
    /// # Errors
    ///
    /// The kernel's, if the gate can't be written. None of the stubs may be used then.
    pub(crate) fn write(&mut self, stubs: &[plan::Stub], memory: Option<&LiveMemory>) -> Result<(), Errno> {
        let mut changed: Vec<(u32, [u8; stub::LEN])> = Vec::with_capacity(stubs.len() + 1);
        if !self.has_restorer {
            changed.push((restorer::RESTORER_STUB, restorer::restorer_stub()));
        }
        for stub in stubs {
            let index = stubs::index_of(stub.at);
            if *stubs::bytes_of(index) != stub.bytes {
                dedicated::move_slots(index, stub.site.back());
                changed.push((index, stub.bytes));
            }
        }
        changed.sort_unstable_by_key(|(index, _)| *index);
        for run in changed.chunk_by(|(left, _), (right, _)| left + 1 == *right) {
            if let Some((first, _)) = run.first() {
                let bytes: Vec<u8> = run.iter().flat_map(|(_, bytes)| *bytes).collect();
                write_run(*first, &bytes, memory)?;
            }
        }
        self.has_restorer = true;
        Ok(())
    }
}

fn write_run(first: u32, bytes: &[u8], memory: Option<&LiveMemory>) -> Result<(), Errno> {
    let at = stubs::in_stub(first, 0);
    match memory {
        Some(memory) => memory.write(at, bytes),
        // Pages in which nobody can be, as `assign` has seen to.
        None => code_writer::write_fresh(
            code_writer::pages(AddrRange::new(at, at.wrapping_add(bytes.len() as u64))),
            bytes,
        ),
    }
}

impl Default for Stubs {
    fn default() -> Self {
        Self::new()
    }
}

/// The gate as plans know it.
#[must_use]
pub(crate) fn gate() -> Gate {
    Gate {
        stubs: stubs::range(),
        policy: policy::address(),
        hooked: GuestAddr(enter_asm::hooked as *const () as u64),
    }
}
