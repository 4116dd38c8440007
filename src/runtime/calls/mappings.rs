//! The calls that change what is mapped, and with it what code there is. Zone: load, and call with the patcher's lock held.
//!
//! Code is patched before it first becomes executable, and what is gone is forgotten before its addresses are used again.
//! All of it happens under one lock and with all signals blocked, so a handler that maps something itself waits its
//! turn instead of deadlocking. Each call is made as the program made it, so that what it answers, and the rights
//! that it leaves behind, are the kernel's own.
//!
//! The calls have frames of their own, apart from `dispatch`'s, which would else be as large as that of the largest.
//!
//! What can't be helped: memory that is writable and executable at once is the program's to write to, and is left alone; so
//! are shared pages, which are others' too, and what is written by a second mapping of the same pages is not looked at.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::map::{self as flags, ANONYMOUS, FIXED, Protection, Sharing, TYPE};
use crate::abi::process::READ_IMPLIES_EXEC;
use crate::addr::{AddrRange, GuestAddr, page_ceil};
use crate::find::site::Text;
use crate::runtime::backstop::sud;
use crate::runtime::calls::{patching, thread_end};
use crate::runtime::code::job::Access;
use crate::runtime::code::patcher::{self, Patcher};
use crate::runtime::code::{notes, patched};
use crate::runtime::gate::pending::Returns;
use crate::runtime::gate::step::Step;
use crate::runtime::memory::{file_pages, maps};
use crate::runtime::session::followed::{Followed, Returned};
use crate::sys::fd::Fd;
use crate::sys::signal::AllBlocked;
use crate::sys::{mem, process};
use crate::x86::scan::SyscallBytes;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;

/// The highest break that the program has asked for. A fork keeps it.
static HIGHEST_BREAK: AtomicU64 = AtomicU64::new(0);

/// `mmap`: what becomes executable is patched first, what it replaces is forgotten.
#[inline(never)]
pub(crate) fn map(followed: Followed<'_>) -> Step {
    let Followed { block, call, .. } = followed;
    let [at, len, prot, bits, ..] = call.args;
    let bits = bits as u32;
    let protection = Protection::from_bits(prot as u32);
    let is_executable = patching::can_execute(protection);
    let is_private_file = bits & ANONYMOUS == 0 && bits & TYPE == Sharing::Private.bits();
    let replaced = patching::pages(at, len).filter(|_| bits & FIXED != 0);
    let replaces = replaced.is_some_and(|range| patched::known().overlaps(range));
    if !patching::may_patch(call) {
        return Step::Pass;
    }
    if !is_executable && !replaces {
        return if is_private_file { Step::PassThenExit(Returns::Once) } else { Step::Pass };
    }
    patching::with_patcher(block, |patcher| match (is_executable && is_private_file, replaced) {
        (true, replaced) => {
            let result = match replaced.filter(|range| !file_pages::known().holds(*range)) {
                Some(range) => patcher.replace_by_file(call, range),
                None => patcher.map_file(call),
            };
            patching::answer(result.inspect(|at| patcher.note_rights(GuestAddr(*at), protection)))
        }
        (false, _) => {
            let result = patching::raw(call);
            if let Ok(at) = result {
                let range =
                    AddrRange::new(GuestAddr(at), GuestAddr(at.wrapping_add(page_ceil(len).unwrap_or(0))));
                patcher.forget(range);
                patcher.note_rights(range.start, protection);
                if is_executable && bits & TYPE != Sharing::Private.bits() {
                    patcher.note_shared(range);
                } else if is_private_file {
                    file_pages::known().insert(range);
                }
            }
            patching::answer(result)
        }
    })
}

/// After an `mmap` of a file that is not executable.
pub(crate) fn note_mapping(returned: Returned<'_>) -> Outcome {
    let outcome = returned.outcome;
    if !returned.has_failed() {
        let end = outcome.0.wrapping_add(page_ceil(returned.call().args[1]).unwrap_or(0));
        file_pages::known().insert(AddrRange::new(GuestAddr(outcome.0), GuestAddr(end)));
    }
    outcome
}

impl Patcher {
    /// Maps a file's code where nobody executes anything, as dynamic loaders do over a file's pages that can only be read.
    /// It is patched before it becomes executable.
    fn map_file(&mut self, call: &Call) -> Result<u64, Errno> {
        let [_, len, prot, _, fd, offset] = call.args;
        let protection = Protection::from_bits(prot as u32);
        if !process::memory_may_become_executable() {
            return self.map_executable_first(call);
        }
        let mut quiet = *call;
        quiet.args[2] = protection.while_patching().bits().into();
        let Ok(at) = patching::raw(&quiet) else { return self.map_executable_first(call) };
        let range = AddrRange::new(GuestAddr(at), GuestAddr(at.wrapping_add(page_ceil(len).unwrap_or(len))));
        file_pages::known().remove(range);
        self.patch_file(range, Fd::from_argument(fd), offset, Access::Fresh);
        sud::consider(self);
        if mem::protect(range, protection).is_ok() {
            return Ok(at);
        }
        // Only the call itself knows its errno (a file system without execution, a policy).
        self.forget(range);
        mem::unmap(range);
        self.map_executable_first(call)
    }

    /// The other order, where a private writable mapping can't be had (RLIMIT_DATA, strict overcommit): maps, then
    /// patches what nobody can have jumped to yet.
    fn map_executable_first(&mut self, call: &Call) -> Result<u64, Errno> {
        let [_, len, _, _, fd, offset] = call.args;
        let at = patching::raw(call)?;
        let end = at.wrapping_add(page_ceil(len).unwrap_or(len));
        let range = AddrRange::new(GuestAddr(at), GuestAddr(end));
        self.patch_file(range, Fd::from_argument(fd), offset, Access::Executable);
        sud::consider(self);
        Ok(at)
    }

    /// Maps a file's code over what lies in `range`, which threads may be executing: it is patched elsewhere, and moved there
    /// at once with its rights.
    fn replace_by_file(&mut self, call: &Call, range: AddrRange) -> Result<u64, Errno> {
        let [_, len, prot, bits, fd, offset] = call.args;
        let protection = Protection::from_bits(prot as u32);
        let fd = Fd::from_argument(fd);
        file_pages::known().remove(range);
        if !process::memory_may_become_executable() {
            return self.map_executable_first(call);
        }
        let aside_bits = u64::from(bits as u32 & !FIXED);
        let rights = u64::from(protection.while_patching().bits());
        let aside = Call { args: [0, len, rights, aside_bits, fd.number(), offset], ..*call };
        let Ok(aside) = patching::raw(&aside) else { return self.map_executable_first(call) };
        let aside = AddrRange::new(GuestAddr(aside), GuestAddr(aside.wrapping_add(range.len())));
        let text = patcher::mapped_text(aside, range.start, fd, offset);
        let Some(text) = text.filter(|text| SyscallBytes::of(text.bytes).next().is_some()) else {
            mem::unmap(aside);
            return patching::raw(call).inspect(|_| {
                self.forget(range);
                notes::note_without_hits(range);
            });
        };
        // SAFETY: the numbers of the old stubs live no longer than the patch.
        let is_moved = unsafe {
            patcher::with_scratch(|| self.patch_aside(text, aside, range, (fd, offset), protection))
        };
        if is_moved {
            return Ok(range.start.0);
        }
        mem::unmap(aside);
        self.map_executable_first(call)
    }

    /// Patches `text`, which lies at `aside`, and moves it to `range`. Returns false if it could not be moved.
    fn patch_aside(
        &mut self,
        text: Text<'_>,
        aside: AddrRange,
        range: AddrRange,
        file: (Fd, u64),
        protection: Protection,
    ) -> bool {
        let old: Vec<u32> = self.stubs.active_in(range).map(|(index, _)| index).collect();
        let shift = aside.start.0.wrapping_sub(range.start.0);
        let applied = self.patch_viewed(text, shift, Some(file), Access::Fresh);
        sud::consider(self);
        let is_moved = mem::protect(aside, protection).and_then(|()| mem::move_over(aside, range.start));
        if is_moved.is_ok() {
            self.supersede(range, &old, applied.patch);
            return true;
        }
        let new: Vec<u32> = self
            .stubs
            .active_in(range)
            .map(|(index, _)| index)
            .filter(|index| !old.contains(index))
            .collect();
        self.withdraw(range, &new, applied.patch);
        false
    }
}

/// `munmap`: what is gone is forgotten. A thread may free the memory at its own fs base.
#[inline(never)]
pub(crate) fn unmap(followed: Followed<'_>) -> Step {
    let Followed { block, call, .. } = followed;
    thread_end::free_base(block, call);
    let [at, len, ..] = call.args;
    let Some(range) = patching::pages(at, len) else { return Step::Pass };
    file_pages::known().remove(range);
    if !patched::known().overlaps(range) {
        return Step::Pass;
    }
    patching::with_patcher(block, |patcher| {
        patching::answer(patching::raw(call).inspect(|_| patcher.forget(range)))
    })
}

/// `brk`: code in what the heap gives back is forgotten.
#[inline(never)]
pub(crate) fn set_break(followed: Followed<'_>) -> Step {
    let Followed { block, call, .. } = followed;
    let wanted = GuestAddr(call.args[0]);
    let current = GuestAddr(HIGHEST_BREAK.load(Ordering::Relaxed));
    let freed = AddrRange::new(wanted, current);
    if wanted.0 != 0 && patched::known().overlaps(freed) {
        return patching::with_patcher(block, |patcher| {
            let result = patching::raw(call);
            if result == Ok(wanted.0) {
                patcher.forget(freed);
            }
            patching::answer(result)
        });
    }
    HIGHEST_BREAK.fetch_max(wanted.0, Ordering::Relaxed);
    Step::Pass
}

/// After `shmat`: executable segments are shared, and so only counted; what they replace is forgotten.
#[inline(never)]
pub(crate) fn note_attached(returned: Returned<'_>) -> Outcome {
    if !returned.has_failed()
        && let Some(_blocked) = AllBlocked::new()
    {
        look_at_attached(returned.outcome, returned.call().args[2] as u32);
    }
    sud::join(returned.block); // the segment may have called for the backstop
    returned.outcome
}

fn look_at_attached(outcome: Outcome, bits: u32) {
    let mut patcher = patcher::lock();
    let at = GuestAddr(outcome.0);
    // SAFETY: what is known of the mappings lives no longer than this.
    let range = unsafe {
        patcher::with_scratch(|| {
            let here = AddrRange::new(at, GuestAddr(u64::MAX));
            let mappings = maps::within(here).unwrap_or_default();
            mappings.first().map(|mapping| mapping.range).filter(|range| range.start == at)
        })
    };
    if let Some(range) = range {
        patcher.forget(range);
        if bits & flags::SHM_EXEC != 0 {
            patcher.note_shared(range);
        }
    }
}

/// Before `shmat`: most segments neither replace anything nor are executable.
pub(crate) fn attach(followed: Followed<'_>) -> Step {
    let Followed { call, .. } = followed;
    let bits = call.args[2] as u32;
    let matters = bits & (flags::SHM_EXEC | flags::SHM_REMAP) != 0 && patching::may_patch(call);
    if matters { Step::PassThenExit(Returns::Once) } else { Step::Pass }
}

/// `personality`: from now on reading may imply execution, in one thread at least.
pub(crate) fn set_personality(followed: Followed<'_>) -> Step {
    let Followed { call, .. } = followed;
    const QUERY: u32 = u32::MAX;
    if call.args[0] as u32 != QUERY && call.args[0] & READ_IMPLIES_EXEC != 0 {
        patching::let_reading_execute();
    }
    Step::Pass
}
