//! What is mapped executable, and the patches in it. Zone: load, and call with the lock held.
//!
//! Code is patched before it first becomes executable: a mapping that asks for execution is made without it, its
//! system calls are replaced, and then it gets the rights that were asked for. All of it happens under one lock and
//! with all signals blocked, so a handler that maps something itself waits its turn instead of deadlocking.

use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr, PAGE, page_ceil, page_floor};
use crate::elf::functions::Functions;
use crate::elf::image::Image;
use crate::find::executed;
use crate::find::search::{self, Found};
use crate::find::site::{Hit, Site, Text, Verdict};
use crate::plan::space::Space;
use crate::plan::stub::Fields;
use crate::plan::{self, Input, Plan, planner, relay, undo};
use crate::runtime::code::apply::{self, Progress};
use crate::runtime::code::concern::{Concerns, Reason};
use crate::runtime::code::job::{Access, Job};
use crate::runtime::code::patched::{self, Content};
use crate::runtime::code::reach::{self, Reach};
use crate::runtime::code::stub_pool::{self, Stubs};
use crate::runtime::code::{notes, pun_pages, traps};
use crate::runtime::gate::stubs;
use crate::runtime::memory::code_writer::{self, LiveMemory};
use crate::runtime::memory::read;
use crate::runtime::signal::reserved;
use crate::sys::fd::Fd;
use crate::sys::lock::{RobustGuard, RobustLock};
use crate::sys::view::View;
use crate::sys::{file, mem};
use crate::x86::encode::UD2;
use crate::x86::scan::SyscallBytes;
use crate::{heap, x86};
use alloc::vec::Vec;

/// What is patched, and what is left.
#[derive(Debug)]
pub(crate) struct Patcher {
    /// The gate's stubs.
    pub stubs: Stubs,
    /// What has been found that the backstop must deal with.
    pub concerns: Concerns,
    /// How many patches there have been.
    patches: u64,
    /// How many hits are neither proved nor disproved.
    pub unproved: u64,
    /// How many proved sites could not be replaced.
    pub refused: u64,
}

impl Patcher {
    /// Nothing is patched.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { stubs: Stubs::new(), concerns: Concerns::new(), patches: 0, unproved: 0, refused: 0 }
    }
}

/// What is patched in this memory; taken with all signals blocked. A fork breaks the lock.
static PATCHER: RobustLock<Patcher> = RobustLock::new(Patcher::new());

impl Default for Patcher {
    fn default() -> Self {
        Self::new()
    }
}

impl Patcher {
    /// Replaces the proved system calls of a text; what can't be replaced is counted and stays as it is. Returns the
    /// end of the highest trampoline, or 0.
    pub(crate) fn patch(&mut self, job: &Job<'_, '_>) -> GuestAddr {
        self.forget(job.text.range());
        if !has_hits(&job.text, job.access) {
            return GuestAddr(0);
        }
        // SAFETY: `patch_hits` keeps nothing on the heap.
        unsafe { with_scratch(|| self.patch_hits(job)) }.end
    }

    /// Patches pages that were mapped from `offset` of the file behind `fd`.
    pub(crate) fn patch_file(&mut self, range: AddrRange, fd: Fd, offset: u64, access: Access) {
        self.forget(range);
        let Some(text) = mapped_text(range, range.start, fd, offset) else { return };
        if has_hits(&text, access) {
            // SAFETY: the image lives no longer than the call, and `patch_hits` keeps nothing on the heap.
            unsafe { with_scratch(|| self.patch_viewed(text, 0, Some((fd, offset)), access)) };
        }
    }

    /// As [`Self::patch`], for a text that was mapped from the offset of that file, if it was. Its memory lies `shift`
    /// bytes on for now.
    pub(crate) fn patch_viewed(
        &mut self,
        text: Text<'_>,
        shift: u64,
        file: Option<(Fd, u64)>,
        access: Access,
    ) -> Applied {
        self.patch_viewed_at(text, shift, file, access, None)
    }

    /// As [`Self::patch_viewed`], but where a hit has been executed that and no other.
    pub(crate) fn patch_viewed_at(
        &mut self,
        text: Text<'_>,
        shift: u64,
        file: Option<(Fd, u64)>,
        access: Access,
        executed: Option<(GuestAddr, u32)>,
    ) -> Applied {
        let was_armed = reserved::owns_trap();
        let view = file.and_then(|(fd, _)| View::of(fd).ok());
        let image = view.as_ref().and_then(|view| Image::parse(view.bytes()).ok());
        let vaddr = image.as_ref().zip(file).and_then(|(image, (_, offset))| vaddr_of(image, offset));
        let applied = self.patch_hits(&Job {
            text,
            access,
            image: vaddr.and(image.as_ref()),
            bias: text.at.0.wrapping_sub(vaddr.unwrap_or(text.at.0)),
            reach: Reach::around(text.range()),
            shift,
            executed,
        });
        if reserved::owns_trap() && !was_armed {
            reserved::unblock_in_handlers(reserved::TRAP_SIGNAL);
        }
        applied
    }

    #[inline(never)]
    fn patch_hits(&mut self, job: &Job<'_, '_>) -> Applied {
        let [start, end] = [job.text.at, job.text.range().end].map(|at| at.wrapping_sub(job.bias).0);
        let functions =
            job.image.map_or_else(Functions::unknown, |image| Functions::of(image).around(start, end));
        let found = search::hits(&job.text, job.bias, &functions);
        let known = Found::default();
        let (sites, news) = match job.executed {
            None => (self.sites_of(&found), &found),
            Some((at, nr)) => (executed::site(&job.text, at, nr, &found).into_iter().collect(), &known),
        };
        self.patches += 1;
        let patch = self.patches;
        if sites.is_empty() {
            notes::note(&job.text, job.shift, news, None, true);
            give_back(&job.text, job.access);
            return Applied { patch, end: GuestAddr(0) };
        }
        let memory = LiveMemory::open().ok();
        let stubs = self.stubs.assign(&sites, job.text.range(), memory.as_ref());
        let gate = stub_pool::gate();
        let near_len = plan::near_len(&job.text, sites.len(), &gate);
        let rights = job.access.for_trampolines();
        let near = reach::reserve_near(&job.text, near_len, rights);
        let draft = |room: &[AddrRange]| {
            planner::plan(Input {
                text: job.text,
                sites: &sites,
                bias: job.bias,
                functions: &functions,
                dead_ends: &found.dead_ends,
                gate,
                stubs: &stubs,
                near,
                space: &mut Space::of(room),
            })
        };
        let (plan, landings) = pun_pages::plan(&job.reach.0, near, rights, draft);
        self.refused += plan.refusals.len() as u64;
        let progress = self.apply(job, &plan, memory.as_ref(), near, &landings);
        let is_applied = progress == Progress::Whole;
        if !is_applied {
            self.refused += plan.stubs.len() as u64;
        }
        notes::note(&job.text, job.shift, news, Some(&plan), is_applied);
        let refused = plan.refusals.first().map(|refusal| refusal.at);
        if let Some(at) = refused.or(sites.first().map(|site| site.at).filter(|_| !is_applied)) {
            self.concerns.note(Reason::Refused, at);
        }
        if progress == Progress::Nothing {
            let new: Vec<u32> = stubs.iter().flatten().map(|at| stubs::index_of(*at)).collect();
            self.withdraw(job.text.range(), &new, patch);
        } else {
            self.stubs.give_back(&stubs, &plan.stubs);
        }
        let end = landings.iter().map(|page| page.wrapping_add(PAGE)).max().unwrap_or_default();
        Applied { patch, end }
    }

    /// The proved ones of what was found; for the others it is said what they call for.
    fn sites_of(&mut self, found: &Found) -> Vec<Site> {
        let is_unproved = |hit: &&Hit| matches!(hit.verdict, Verdict::Unproved(_));
        let is_suspect =
            |hit: &&Hit| matches!(hit.verdict, Verdict::Unproved(unproved) if unproved.is_plausible);
        self.unproved += found.hits.iter().filter(is_unproved).count() as u64;
        if let Some(hit) = found.hits.iter().find(is_suspect) {
            self.concerns.note(Reason::Unproved, hit.at);
        }
        let site = |hit: &Hit| match hit.verdict {
            Verdict::Site(site) => Some(site),
            Verdict::Inside(_) | Verdict::Restorer | Verdict::Unproved(_) => None,
        };
        found.hits.iter().filter_map(site).collect()
    }

    /// Writes what the plan says: first all that a patched site leads to, then the sites.
    fn apply(
        &mut self,
        job: &Job<'_, '_>,
        plan: &Plan,
        memory: Option<&LiveMemory>,
        near: Option<AddrRange>,
        landings: &[GuestAddr],
    ) -> Progress {
        let pages = landings.iter().map(|&page| AddrRange::new(page, page.wrapping_add(PAGE)));
        let areas: Vec<AddrRange> = near.into_iter().chain(pages).collect();
        match self.prepare(job, plan, memory, &areas).and_then(|()| apply::change(job, plan)) {
            Ok(progress) => progress,
            Err(_) => Progress::Nothing,
        }
    }

    /// Puts in place what the sites of a plan are to lead to: stubs, trampolines in their `areas`, traps. Nothing leads
    /// there yet, so if that fails all of it can be taken back.
    fn prepare(
        &mut self,
        job: &Job<'_, '_>,
        plan: &Plan,
        memory: Option<&LiveMemory>,
        areas: &[AddrRange],
    ) -> Result<(), Errno> {
        let has_room =
            patched::known().has_room_for(1 + areas.len()) && traps::has_room_for(plan.traps.len());
        let is_ready = if has_room { self.stubs.write(&plan.stubs, memory) } else { Err(Errno::ENOMEM) };
        is_ready.inspect_err(|_| areas.iter().copied().for_each(mem::unmap))?;
        let content = if job.access == Access::Fresh { Content::FileText } else { Content::Text };
        patched::known().insert(job.text.range(), content, self.patches);
        for area in areas {
            patched::known().insert(*area, Content::Trampolines, self.patches);
        }
        for trampoline in &plan.trampolines {
            // SAFETY: it lies in the near area or on the landing pages, which nobody else writes.
            unsafe { job.access.write(trampoline.at, &trampoline.bytes) }?;
        }
        areas.iter().try_for_each(|area| mem::protect(*area, Protection::READ_EXECUTE))?;
        if !plan.traps.is_empty() {
            reserved::reserve_trap()?;
        }
        if traps::add_all(&plan.traps) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// The code in `range` is gone, or is about to be other code: what led from it to the gate is free.
    #[inline(never)]
    pub(crate) fn forget(&mut self, range: AddrRange) {
        if patched::known().overlaps(range) {
            self.stubs.retire(range);
            traps::forget(range);
            self.drop_patches(range, None);
        }
    }

    /// As [`Self::forget`], but for the patch `kept`, which is in force there now; the stubs of the others are `old`.
    pub(crate) fn supersede(&mut self, range: AddrRange, old: &[u32], kept: u64) {
        self.stubs.retire_each(old);
        traps::retain(range, |entry| !self.stubs.is_idle(stubs::index_of(entry)));
        self.drop_patches(range, Some(kept));
    }

    /// The patch `dropped` of `range`, whose stubs are `new`, is not to come into force.
    pub(crate) fn withdraw(&mut self, range: AddrRange, new: &[u32], dropped: u64) {
        patched::known().remove_patch(dropped);
        self.supersede(AddrRange::new(range.end, range.end), new, dropped);
        traps::retain(range, |entry| !self.stubs.is_idle(stubs::index_of(entry)));
    }

    /// Gives the code in `range`, which is writable and which nobody executes, its own bytes back.
    pub(crate) fn restore(&mut self, range: AddrRange) {
        self.restore_moved(range, 0);
        self.forget(range);
    }

    /// As [`Self::restore`], for code that now lies in `range` and was patched `shift` bytes before.
    pub(crate) fn restore_moved(&mut self, range: AddrRange, shift: u64) {
        let old = AddrRange::new(range.start.wrapping_sub(shift), range.end.wrapping_sub(shift));
        let intact = self.stubs.active_in(old).filter(|(_, fields)| is_intact(fields, old, shift));
        for (at, bytes) in intact.filter_map(|(_, fields)| undo::original(&fields)) {
            // SAFETY: it is writable and nobody executes it, as the caller vouches.
            unsafe { code_writer::write(at.wrapping_add(shift), &bytes) };
        }
    }

    /// The program may have written over patches in `range`: those that are no longer there are forgotten.
    pub(crate) fn forget_overwritten(&mut self, range: AddrRange) {
        let overwritten: Vec<u32> = self
            .stubs
            .active_in(range)
            .filter(|(_, fields)| !is_intact(fields, range, 0))
            .map(|(index, _)| index)
            .collect();
        self.stubs.retire_each(&overwritten);
        traps::retain(range, |entry| !self.stubs.is_idle(stubs::index_of(entry)));
    }

    fn drop_patches(&mut self, range: AddrRange, kept: Option<u64>) {
        patched::known().remove(range, kept);
        while let Some(area) = patched::known().take_orphan() {
            mem::unmap(area);
        }
    }
}

/// Whether the patch that leads to a stub still stands in `text`, which lies `shift` bytes on.
fn is_intact(fields: &Fields<'_>, text: AddrRange, shift: u64) -> bool {
    let code = |at: GuestAddr| match text.contains(at) {
        true => Some(window(at.wrapping_add(shift), text.end.0 - at.0)),
        false => patched::known().window(at),
    };
    let Some((start, _)) = undo::original(fields) else { return false };
    let entry = relay::entry_from(start, stubs::range(), code, |_| Some(start));
    let entry = entry
        .or_else(|| traps::entry_of(start).filter(|_| code(start).is_some_and(|it| it.starts_with(&UD2))));
    entry.is_some_and(|entry| stubs::index_of(entry) == stubs::index_of(fields.at))
}

/// The first bytes of the `len` at `at`, which are readable; zeros past their end.
fn window(at: GuestAddr, len: u64) -> relay::Window {
    let mut window = relay::Window::default();
    // SAFETY: as the caller vouches.
    let bytes = unsafe { read::bytes_of(at, len.min(window.len() as u64)) };
    window.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    window
}

/// What became of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applied {
    /// The number of the patch.
    pub patch: u64,
    /// The end of the highest trampoline, or 0.
    pub end: GuestAddr,
}

/// The part of `range`, which was mapped from `offset` of the file behind `fd`, that the file reaches, as the text that
/// runs at `at`.
pub(crate) fn mapped_text<'a>(range: AddrRange, at: GuestAddr, fd: Fd, offset: u64) -> Option<Text<'a>> {
    let facts = file::facts(fd).ok()?;
    let in_file = page_ceil(facts.len).unwrap_or(0).saturating_sub(offset);
    // SAFETY: the pages were just mapped readable, and the file reaches that far.
    Some(Text { at, bytes: unsafe { read::bytes_of(range.start, range.len().min(in_file)) } })
}

/// Whether there is anything to patch.
pub(crate) fn has_hits(text: &Text<'_>, access: Access) -> bool {
    let has_hits = SyscallBytes::of(text.bytes).next().is_some();
    if !has_hits {
        notes::note_without_hits(text.range());
        give_back(text, access);
    }
    has_hits
}

/// Unmaps the file's pages that only the scan has touched: the program will want few of them.
fn give_back(text: &Text<'_>, access: Access) {
    if access == Access::Fresh {
        let at = GuestAddr(text.bytes.as_ptr().addr() as u64);
        mem::discard(AddrRange::new(at, at.wrapping_add(text.bytes.len() as u64)));
    }
}

/// Runs `patch` and gives back the heap that it took, unless the decoder made its tables there, which it does once.
///
/// # Safety
///
/// `patch` leaves nothing behind that was allocated in it.
pub(crate) unsafe fn with_scratch<R>(patch: impl FnOnce() -> R) -> R {
    let had_tables = x86::decode::has_tables();
    let before = heap::mark();
    let result = patch();
    if x86::decode::has_tables() == had_tables {
        // SAFETY: nothing is left, as the caller vouches, and nobody else allocates meanwhile.
        unsafe { heap::reset(before) };
    }
    result
}

/// The link-time address of the byte at `offset` of the file.
fn vaddr_of(image: &Image<'_>, offset: u64) -> Option<u64> {
    image.segments().iter().filter(|segment| segment.executable).find_map(|segment| {
        let start = page_floor(segment.offset);
        let end = page_ceil(segment.offset.checked_add(segment.file_size)?)?;
        (start..end).contains(&offset).then(|| page_floor(segment.vaddr).wrapping_add(offset - start))
    })
}

/// Takes the lock of all patching, with all signals blocked. If its last holder died over a patch, that is dropped: what
/// the lock guards is changed by single stores, so at worst a page of stubs is lost.
pub(crate) fn lock() -> RobustGuard<'static, Patcher> {
    let patcher = PATCHER.lock();
    if patcher.is_inherited() {
        // SAFETY: only the holder of this lock uses the heap, and it is dead.
        unsafe { heap::abandon_patch() };
    }
    patcher
}

/// In a forked child: takes the lock away from a thread that has not come along.
///
/// # Safety
///
/// Whoever may hold it will never run again, and nobody waits.
pub(crate) unsafe fn break_lock() {
    if PATCHER.is_locked() {
        // SAFETY: only the holder of this lock uses the heap, and it is not here.
        unsafe { heap::abandon_patch() };
        // SAFETY: as the caller vouches.
        unsafe { PATCHER.force_unlock() };
    }
}
