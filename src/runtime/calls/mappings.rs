//! The calls that change what is mapped, and with it what code there is. Zone: load, and call with the modules' lock held.
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
use crate::addr::{AddrRange, GuestAddr, PAGE, page_ceil};
use crate::find::site::Text;
use crate::load::rendezvous;
use crate::runtime::backstop::sud;
use crate::runtime::code::concern::Reason;
use crate::runtime::code::notes;
use crate::runtime::code::patched::{self, Content};
use crate::runtime::code::patcher::{self, Access, Modules};
use crate::runtime::gate::block::Block;
use crate::runtime::gate::pending::Returns;
use crate::runtime::gate::step::Step;
use crate::runtime::memory::maps::{self, Mapping};
use crate::runtime::memory::{file_pages, read};
use crate::runtime::tasks;
use crate::sys::fd::Fd;
use crate::sys::signal::AllBlocked;
use crate::sys::{mem, process};
use crate::x86::scan::SyscallBytes;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What calls have asked for that later ones depend on.
#[derive(Debug)]
struct Asked {
    /// The highest break.
    highest_break: AtomicU64,
    /// Whether a thread has had reading imply execution.
    reading_executes: AtomicBool,
}

/// What has been asked for in this memory. A fork keeps it.
static ASKED: Asked = Asked { highest_break: AtomicU64::new(0), reading_executes: AtomicBool::new(false) };

/// Whether threads may be executing code that is to be patched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Running {
    /// It has just come to where it is.
    Nobody,
    /// It may have been executable for long.
    Perhaps,
}

/// Whether pages with these rights can be executed: `personality` may have made reading imply it.
fn can_execute(protection: Protection) -> bool {
    protection.executable() || protection.readable() && ASKED.reading_executes.load(Ordering::Relaxed)
}

/// Whether code may be patched that `call` makes executable: not where filters look at where calls come from, nor where
/// one has something to say to the call itself, which it must then say to the program's own.
fn may_patch(call: &Call) -> bool {
    !sud::has_address_filters() && crate::sys::seccomp::allows(call.nr, call.args)
}

/// The whole pages that `len` bytes at `at` take; `None` where the kernel would say EINVAL or ENOMEM.
fn pages(at: u64, len: u64) -> Option<AddrRange> {
    let end = at.checked_add(page_ceil(len)?)?;
    (at.is_multiple_of(PAGE) && at < end).then_some(AddrRange::new(GuestAddr(at), GuestAddr(end)))
}

/// Makes a call as it is.
fn raw(call: &Call) -> Result<u64, Errno> {
    // SAFETY: it is the program's own mapping call, or one with fewer rights.
    unsafe { crate::sys::program_call(call.nr, call.args) }
}

fn answer(result: Result<u64, Errno>) -> Step {
    Step::Answer(match result {
        Ok(value) => Outcome(value),
        Err(errno) => Outcome::failure(errno),
    })
}

/// Runs `change` with the lock held, in the name of the call on `block`; passes where signals can't be blocked.
fn with_modules(block: &Block, change: impl FnOnce(&mut Modules) -> Step) -> Step {
    let Some(_blocked) = AllBlocked::new() else { return Step::Pass };
    let mut modules = patcher::lock();
    modules.stubs.caller = block.stub;
    change(&mut modules)
}

/// `mmap`: what becomes executable is patched first, what it replaces is forgotten.
#[inline(never)]
pub fn map(block: &Block, call: &Call) -> Step {
    let [at, len, prot, bits, ..] = call.args;
    let bits = bits as u32;
    let protection = Protection::from_bits(prot as u32);
    let is_executable = can_execute(protection);
    let is_private_file = bits & ANONYMOUS == 0 && bits & TYPE == Sharing::Private.bits();
    let replaced = pages(at, len).filter(|_| bits & FIXED != 0);
    let replaces = replaced.is_some_and(|range| patched::known().overlaps(range));
    if !may_patch(call) {
        return Step::Pass;
    }
    if !is_executable && !replaces {
        return if is_private_file { Step::Tell(Returns::Once) } else { Step::Pass };
    }
    with_modules(block, |modules| match (is_executable && is_private_file, replaced) {
        (true, replaced) => {
            let result = match replaced.filter(|range| !file_pages::known().holds(*range)) {
                Some(range) => modules.replace_by_file(call, range),
                None => modules.map_file(call),
            };
            answer(result.inspect(|at| modules.note_rights(GuestAddr(*at), protection)))
        }
        (false, _) => {
            let result = raw(call);
            if let Ok(at) = result {
                let range =
                    AddrRange::new(GuestAddr(at), GuestAddr(at.wrapping_add(page_ceil(len).unwrap_or(0))));
                modules.forget(range);
                modules.note_rights(range.start, protection);
                if is_executable && bits & TYPE != Sharing::Private.bits() {
                    modules.note_shared(range);
                } else if is_private_file {
                    file_pages::known().insert(range);
                }
            }
            answer(result)
        }
    })
}

/// After an `mmap` of a file that is not executable.
pub fn note_mapping(call: &Call, outcome: Outcome) {
    if call.nr == crate::abi::sysno::MMAP && outcome.errno().is_none() {
        let end = outcome.0.wrapping_add(page_ceil(call.args[1]).unwrap_or(0));
        file_pages::known().insert(AddrRange::new(GuestAddr(outcome.0), GuestAddr(end)));
    }
}

impl Modules {
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
        let Ok(at) = raw(&quiet) else { return self.map_executable_first(call) };
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
        let at = raw(call)?;
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
        let Ok(aside) = raw(&aside) else { return self.map_executable_first(call) };
        let aside = AddrRange::new(GuestAddr(aside), GuestAddr(aside.wrapping_add(range.len())));
        let text = patcher::mapped_text(aside, range.start, fd, offset);
        let Some(text) = text.filter(|text| SyscallBytes::of(text.bytes).next().is_some()) else {
            mem::unmap(aside);
            return raw(call).inspect(|_| {
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

    /// What the program may write and execute from `at` on is never looked at again.
    fn note_rights(&mut self, at: GuestAddr, protection: Protection) {
        if protection.writable() && can_execute(protection) {
            notes::count_writable();
            sud::need(self, Reason::Writable, at);
        }
    }

    /// Counts what may be calls in shared pages, which stay as they are, and which others may write to.
    fn note_shared(&mut self, range: AddrRange) {
        sud::need(self, Reason::Shared, range.start);
        let hits = self.count_untouched(range);
        notes::count_shared(hits);
    }

    /// Counts what may be calls in pages that stay as they are. Returns how many there are.
    fn count_untouched(&mut self, range: AddrRange) -> u64 {
        let hits = SyscallBytes::of(readable(range).bytes).count() as u64;
        self.unproved += hits;
        hits
    }
}

/// Looks where `range` is. Returns the part of it that can be read, up to its first page that can't.
fn readable(range: AddrRange) -> Text<'static> {
    let end = mem::readable_end(range);
    // SAFETY: the pages have just been readable. Who takes that away meanwhile would have made the call in question fail;
    // who writes to them while they are to become executable would run a mixture without the loader too.
    Text { at: range.start, bytes: unsafe { read::bytes_of(range.start, end.0 - range.start.0) } }
}

/// Whether there is something in `range` that may have to be patched, or that can't be read as it is.
fn needs_look(range: AddrRange) -> bool {
    let is_written = patched::known().texts(range).any(|(_, content)| content == Content::WrittenText);
    is_written || {
        let bytes = readable(range).bytes;
        (bytes.len() as u64) < range.len() || SyscallBytes::of(bytes).next().is_some()
    }
}

/// `mprotect` and `pkey_mprotect`: what becomes executable is patched first; what becomes writable, and can't be executed
/// meanwhile, is the program's own again first.
#[inline(never)]
pub fn protect(block: &Block, call: &Call) -> Step {
    let [at, len, prot, ..] = call.args;
    let protection = Protection::from_bits(prot as u32);
    let Some(range) = pages(at, len) else { return Step::Pass };
    if protection == Protection::READ {
        // That is how dynamic loaders close what they have relocated: all that they have loaded is on their list.
        rendezvous::changed();
    }
    if can_execute(protection) {
        file_pages::known().remove(range);
        if protection.writable() {
            return protect_writable(block, call, range);
        }
        if !may_patch(call) || !needs_look(range) {
            return Step::Pass;
        }
        return with_modules(block, |modules| {
            modules.look(range, Running::Perhaps);
            let result = raw(call);
            if result.is_err() {
                modules.give_back(range);
            }
            answer(result)
        });
    }
    if !protection.writable() || !patched::known().overlaps(range) || !may_patch(call) {
        return Step::Pass;
    }
    with_modules(block, |modules| {
        let result = raw(call);
        if result.is_ok() {
            modules.give_back(range);
        }
        answer(result)
    })
}

/// What can be written while it can be executed is the program's to change, and to copy, at any time: an operand in front of
/// a call, the bytes behind it. So it is left alone, and what was patched before is given back unless other threads may be
/// executing it.
#[inline(never)]
fn protect_writable(block: &Block, call: &Call, range: AddrRange) -> Step {
    patched::known().mark_written(range);
    if !may_patch(call) || !needs_look(range) && !sud::minds_rights() {
        notes::count_writable();
        return Step::Pass;
    }
    with_modules(block, |modules| {
        let result = raw(call);
        if result.is_ok() {
            if tasks::is_only_thread() {
                modules.restore(range);
            }
            modules.count_untouched(range);
            modules.note_rights(range.start, Protection::from_bits(call.args[2] as u32));
        }
        answer(result)
    })
}

impl Modules {
    /// Patches the code in `range`, whatever its rights, which stay as they are.
    #[inline(never)]
    fn look(&mut self, range: AddrRange, running: Running) {
        // SAFETY: what is known of the mappings lives no longer than this.
        unsafe {
            patcher::with_scratch(|| {
                for mapping in maps::within(range).unwrap_or_default() {
                    self.look_at(&mapping, running);
                }
            });
        }
    }

    fn look_at(&mut self, mapping: &Mapping, running: Running) {
        let Mapping { range, protection, .. } = *mapping;
        if mapping.sharing == Sharing::Shared {
            return self.note_shared(range);
        }
        if protection.executable() && running == Running::Perhaps {
            // What can be written can be read (SDM vol. 3A, 4.6.1).
            if protection.readable() || protection.writable() {
                self.forget_overwritten(range);
                self.patch_mapping(mapping, Access::Live { is_writable: protection.writable() });
            }
            return;
        }
        if mem::protect(range, protection.while_patching()).is_ok() {
            self.restore(range);
            self.patch_mapping(mapping, Access::Writable);
            // What it had it may have again. Where mappings have run out, trampolines may have taken the one that it needs.
            if mem::protect(range, protection).is_err() {
                self.restore(range);
                let _ = mem::protect(range, protection);
            }
        }
    }

    fn patch_mapping(&mut self, mapping: &Mapping, access: Access) {
        let text = readable(mapping.range); // there may be pages that its file does not reach
        if SyscallBytes::of(text.bytes).next().is_some() {
            let file = mapping.file();
            let file = file.as_ref().map(|file| (file.fd(), mapping.offset));
            self.patch_viewed(text, 0, file, access);
            sud::consider(self);
        }
    }

    /// The pages in `range` have become writable, and nobody executes them: the program finds its own bytes there.
    #[inline(never)]
    fn give_back(&mut self, range: AddrRange) {
        if patched::known().overlaps(range) {
            // SAFETY: what is known of the mappings lives no longer than this.
            unsafe {
                patcher::with_scratch(|| {
                    for mapping in maps::within(range).unwrap_or_default() {
                        let can_write = !mapping.protection.executable()
                            && mapping.sharing == Sharing::Private
                            && patched::known().overlaps(mapping.range);
                        if can_write
                            && mem::protect(mapping.range, mapping.protection.while_patching()).is_ok()
                        {
                            self.restore(mapping.range);
                            let _ = mem::protect(mapping.range, mapping.protection);
                        }
                    }
                });
            }
        }
    }
}

/// `munmap`: what is gone is forgotten.
#[inline(never)]
pub fn unmap(block: &Block, call: &Call) -> Step {
    let [at, len, ..] = call.args;
    let Some(range) = pages(at, len) else { return Step::Pass };
    file_pages::known().remove(range);
    if !patched::known().overlaps(range) {
        return Step::Pass;
    }
    with_modules(block, |modules| answer(raw(call).inspect(|_| modules.forget(range))))
}

/// `mremap`: code that moves is patched for where it comes to lie.
#[inline(never)]
pub fn remap(block: &Block, call: &Call) -> Step {
    let [from, old_len, new_len, bits, to, _] = call.args;
    let bits = bits as u32;
    // A length of 0 is that of shared pages, which have no patches.
    let Some(old) = pages(from, old_len) else { return Step::Pass };
    let replaced = pages(to, new_len).filter(|_| bits & flags::REMAP_FIXED != 0);
    file_pages::known().remove(old);
    if !patched::known().overlaps(old) && !replaced.is_some_and(|range| patched::known().overlaps(range)) {
        return Step::Pass;
    }
    with_modules(block, |modules| {
        let result = raw(call);
        if let (Ok(at), Some(new_len)) = (result, page_ceil(new_len)) {
            let new = AddrRange::new(GuestAddr(at), GuestAddr(at.wrapping_add(new_len)));
            if new.start == old.start {
                modules.forget(AddrRange::new(new.end, old.end));
                modules.look(AddrRange::new(old.end, new.end), Running::Nobody);
            } else {
                modules.forget(new);
                modules.follow(old, new);
                if bits & flags::REMAP_DONTUNMAP != 0 {
                    modules.look(old, Running::Nobody);
                }
            }
        }
        answer(result)
    })
}

impl Modules {
    /// Code has moved: its patches are taken back where it lies now, and made anew.
    fn follow(&mut self, old: AddrRange, new: AddrRange) {
        let shift = new.start.0.wrapping_sub(old.start.0);
        // SAFETY: what is known of the mappings lives no longer than this.
        unsafe {
            patcher::with_scratch(|| {
                for mapping in maps::within(new).unwrap_or_default() {
                    let Mapping { range, protection, .. } = mapping;
                    if mapping.sharing == Sharing::Private
                        && mem::protect(range, protection.while_patching()).is_ok()
                    {
                        self.restore_moved(range, shift);
                        if protection.executable() {
                            self.patch_mapping(&mapping, Access::Writable);
                        }
                        let _ = mem::protect(range, protection);
                    }
                }
            });
        }
        self.forget(old);
    }
}

/// `madvise`: code that goes back to what its file says is patched again. Where that is all that can come of it, the patched
/// pages are left out, for nothing but the patches would change.
#[inline(never)]
pub fn advise(block: &Block, call: &Call) -> Step {
    let [at, len, advice, ..] = call.args;
    let Some(range) = pages(at, len).filter(|range| patched::known().overlaps(*range)) else {
        return Step::Pass;
    };
    if !flags::DISCARDING_ADVICE.contains(&(advice as u32)) {
        return Step::Pass;
    }
    with_modules(block, |modules| {
        let mut next = range.start;
        let mut result = Ok(0);
        while next < range.end {
            let rest = AddrRange::new(next, range.end);
            let kept = patched::known().texts(rest).filter(|(_, content)| *content == Content::FileText);
            let kept = kept.map(|(text, _)| text.intersection(&rest)).min_by_key(|text| text.start);
            let part = AddrRange::new(next, kept.map_or(range.end, |text| text.start));
            if !part.is_empty() {
                let part_call = Call { args: [part.start.0, part.len(), advice, 0, 0, 0], ..*call };
                result = result.and(raw(&part_call));
                modules.forget(part);
                modules.look(part, Running::Nobody);
            }
            next = kept.map_or(range.end, |text| GuestAddr(page_ceil(text.end.0).unwrap_or(text.end.0)));
        }
        answer(result)
    })
}

/// `brk`: code in what the heap gives back is forgotten.
#[inline(never)]
pub fn set_break(block: &Block, call: &Call) -> Step {
    let wanted = GuestAddr(call.args[0]);
    let current = GuestAddr(ASKED.highest_break.load(Ordering::Relaxed));
    let freed = AddrRange::new(wanted, current);
    if wanted.0 != 0 && patched::known().overlaps(freed) {
        return with_modules(block, |modules| {
            let result = raw(call);
            if result == Ok(wanted.0) {
                modules.forget(freed);
            }
            answer(result)
        });
    }
    ASKED.highest_break.fetch_max(wanted.0, Ordering::Relaxed);
    Step::Pass
}

/// After `shmat`: executable segments are shared, and so only counted; what they replace is forgotten.
#[inline(never)]
pub fn note_attached(call: &Call, outcome: Outcome) {
    let bits = call.args[2] as u32;
    if call.nr != crate::abi::sysno::SHMAT || outcome.errno().is_some() {
        return;
    }
    let Some(_blocked) = AllBlocked::new() else { return };
    let mut modules = patcher::lock();
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
        modules.forget(range);
        if bits & flags::SHM_EXEC != 0 {
            modules.note_shared(range);
        }
    }
}

/// Before `shmat`: most segments neither replace anything nor are executable.
pub fn attach(call: &Call) -> Step {
    let bits = call.args[2] as u32;
    let matters = bits & (flags::SHM_EXEC | flags::SHM_REMAP) != 0 && may_patch(call);
    if matters { Step::Tell(Returns::Once) } else { Step::Pass }
}

/// `personality`: from now on reading may imply execution, in one thread at least.
pub fn set_personality(call: &Call) -> Step {
    const QUERY: u32 = u32::MAX;
    if call.args[0] as u32 != QUERY && call.args[0] & READ_IMPLIES_EXEC != 0 {
        ASKED.reading_executes.store(true, Ordering::Relaxed);
    }
    Step::Pass
}
