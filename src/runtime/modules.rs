//! What is mapped executable, and the patches in it. Zone: load, and call with the lock held.
//!
//! Code is patched before it first becomes executable: a mapping that asks for execution is made without it, its
//! system calls are replaced, and then it gets the rights that were asked for. All of it happens under one lock and
//! with all signals blocked, so a handler that maps something itself waits its turn instead of deadlocking.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::map::{ANONYMOUS, Protection, Sharing, TYPE};
use crate::addr::{AddrRange, GuestAddr, PAGE, page_ceil, page_floor};
use crate::elf::functions::Functions;
use crate::elf::image::Image;
use crate::heap;
use crate::load::map::Mapping;
use crate::load::rendezvous;
use crate::patch::find::{self, Found};
use crate::patch::plan::{self, Gate, Input, Plan};
use crate::patch::site::{Site, Text, Verdict};
use crate::patch::space::Space;
use crate::patch::stub;
use crate::runtime::dispatch::Step;
use crate::runtime::pending::Returns;
use crate::runtime::state::{STATE, policy_address};
use crate::runtime::{block, dispatch, enter_asm, file_pages, gate_asm, landings, text, trap};
use crate::sys::file::{self, Fd, View};
use crate::sys::lock::RobustGuard;
use crate::sys::mem::{self, Place};
use crate::sys::process;
use crate::sys::signal::AllBlocked;
use crate::x86;
use crate::x86::scan::SyscallBytes;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// Stubs that fill one page: a module's stubs start on a page of their own, which nobody executes yet.
const STUBS_A_PAGE: u32 = PAGE as u32 / stub::LEN as u32;

/// What is patched, and what is left.
#[derive(Debug)]
pub struct Modules {
    /// The first free stub; 0 while not even the restorer is written.
    next_stub: u32,
    /// How many hits are neither proved nor disproved.
    pub unproved: u64,
    /// How many proved sites could not be replaced.
    pub refused: u64,
}

impl Modules {
    /// Nothing is patched.
    #[must_use]
    pub const fn new() -> Self {
        Self { next_stub: 0, unproved: 0, refused: 0 }
    }
}

impl Default for Modules {
    fn default() -> Self {
        Self::new()
    }
}

/// How the bytes of a text can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// They are writable, nobody executes them, and they are still the file's: nobody has written to them.
    Fresh,
    /// They are writable, and nobody executes them.
    Writable,
    /// They are executable already.
    Executable,
}

impl Access {
    /// What trampolines for such a text are mapped with: written by the same way, and executable in the end.
    const fn for_trampolines(self) -> Protection {
        match self {
            Self::Fresh | Self::Writable => Protection::READ_WRITE,
            Self::Executable => Protection::READ_EXECUTE,
        }
    }

    /// Writes code.
    ///
    /// # Errors
    ///
    /// The kernel's.
    ///
    /// # Safety
    ///
    /// The range is mapped, and in the state that `self` says.
    unsafe fn write(self, at: GuestAddr, bytes: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Fresh | Self::Writable => {
                // SAFETY: it is writable and nobody executes it, as the caller vouches.
                unsafe { text::write(at, bytes) };
                Ok(())
            }
            Self::Executable => text::write_live(at, bytes),
        }
    }
}

/// A text to be patched, and the file it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a, 'f> {
    /// The bytes in memory.
    pub text: Text<'a>,
    /// How to write them.
    pub access: Access,
    /// The file, if it is one that says something about its functions.
    pub image: Option<&'a Image<'f>>,
    /// Run-time minus link-time address.
    pub bias: u64,
    /// Where trampolines may lie that punned jumps point at.
    pub room: Room,
}

/// Address space for trampolines that must lie at certain addresses.
#[derive(Clone, Copy, Debug)]
pub struct Room([AddrRange; 3]);

impl Room {
    /// How far a mapping may grow before it meets a trampoline: new mappings go below old ones.
    const CLEARANCE: u64 = 256 << 20;
    /// How far a module's other segments are likely to reach behind its text.
    const MODULE: u64 = 16 << 20;
    /// What is kept free below the loader's view of the stack, for the stack to grow.
    const STACK: u64 = 64 << 20;
    /// Just short of what a `rel32` spans.
    const REACH: u64 = (1 << 31) - (1 << 20);

    /// Around a text that lies among the mappings that the kernel places.
    #[must_use]
    pub fn around(text: AddrRange) -> Self {
        let stack = GuestAddr(STATE.stack_top.load(Ordering::Relaxed));
        let highest = text.start.wrapping_add(Self::REACH);
        let top = if stack > text.start { highest.min(stack.wrapping_sub(Self::STACK)) } else { highest };
        let below = GuestAddr(text.end.0.saturating_sub(Self::REACH).max(Self::CLEARANCE));
        // The module's own data come first.
        let above = AddrRange::new(text.end.page_floor().wrapping_add(Self::MODULE), top.page_floor());
        let own = own_mappings();
        Self([
            AddrRange::new(above.start, above.end.min(own.start)),
            AddrRange::new(above.start.max(own.end), above.end),
            AddrRange::new(below.page_floor(), text.start.wrapping_sub(Self::CLEARANCE).page_floor()),
        ])
    }

    /// Behind a program, where nothing lies but its break, which is put behind the trampolines.
    #[must_use]
    pub fn behind(span: AddrRange) -> Self {
        const REACH: u64 = (1 << 30) - (1 << 20);
        let nothing = AddrRange::new(span.start, span.start);
        Self([AddrRange::new(span.end, span.end.wrapping_add(REACH)), nothing, nothing])
    }
}

/// From the blocks to the loader's image, which the kernel has put next to each other. Puns would point there often,
/// since what follows a system call is the same few instructions everywhere, and each costs another plan.
fn own_mappings() -> AddrRange {
    let blocks = block::mapping();
    let state = GuestAddr((&raw const STATE).addr() as u64);
    let image_end = state.wrapping_add(size_of_val(&STATE) as u64 + PAGE).page_floor();
    AddrRange::new(blocks.start.min(state), blocks.end.max(image_end))
}

/// Patches a freshly mapped image and gives its texts their rights. Punned jumps get their trampolines in `room`, or
/// around the image; returns the end of the highest.
///
/// # Errors
///
/// The kernel's, if the rights can't be had.
pub fn adopt(image: &Image<'_>, mapping: &Mapping, room: Option<Room>) -> Result<GuestAddr, Errno> {
    let _blocked = AllBlocked::new();
    let mut modules = lock();
    STATE.file_pages.insert(mapping.span);
    let access = if process::memory_may_become_executable() { Access::Fresh } else { Access::Executable };
    let mut end = mapping.span.end;
    for part in &mapping.texts {
        let len = readable_len(image, part.range.start.0.wrapping_sub(mapping.bias), part.range.len());
        // SAFETY: the pages were just mapped readable, and the file reaches that far.
        let bytes = unsafe { bytes_of(part.range.start, len) };
        let text = Text { at: part.range.start, bytes };
        let room = room.unwrap_or_else(|| Room::around(part.range));
        let job = Job { text, access, image: Some(image), bias: mapping.bias, room };
        end = end.max(modules.patch(&job));
        mem::protect(part.range, part.protection)?;
    }
    Ok(end)
}

/// Patches an image that the kernel has mapped executable; nobody executes it yet. Its bytes are read from the file and
/// written only where something is replaced, so breakpoints that a debugger has set already stay. Returns the end of the
/// highest trampoline.
///
/// # Errors
///
/// The kernel's, if the rights can't be had back.
pub fn adopt_in_place(image: &Image<'_>, mapping: &Mapping, room: Room) -> Result<GuestAddr, Errno> {
    let _blocked = AllBlocked::new();
    let mut modules = STATE.modules.lock();
    let mut end = mapping.span.end;
    let segments = image.segments().iter().filter(|segment| segment.executable);
    for (segment, part) in segments.zip(&mapping.texts) {
        let len = readable_len(image, page_floor(segment.vaddr), part.range.len());
        let offset = page_floor(segment.offset) as usize;
        let bytes = image.file().get(offset..).unwrap_or_default();
        let bytes = bytes.get(..len as usize).unwrap_or(bytes);
        if SyscallBytes::of(bytes).next().is_none() {
            continue;
        }
        mem::protect(part.range, part.protection.while_patching())?;
        let text = Text { at: part.range.start, bytes };
        let job = Job { text, access: Access::Writable, image: Some(image), bias: mapping.bias, room };
        end = end.max(modules.patch(&job));
        mem::protect(part.range, part.protection)?;
    }
    Ok(end)
}

/// How much of `len` bytes from link-time address `vaddr` on can be read without running past the end of the file.
fn readable_len(image: &Image<'_>, vaddr: u64, len: u64) -> u64 {
    let segment = image.segments().iter().find(|segment| page_floor(segment.vaddr) == vaddr);
    segment.map_or(0, |segment| {
        let file_end = page_ceil(image.file().len() as u64).unwrap_or(0);
        let last = page_ceil(segment.vaddr.wrapping_add(segment.file_size)).unwrap_or(0);
        len.min(last.saturating_sub(vaddr)).min(file_end.saturating_sub(page_floor(segment.offset)))
    })
}

/// # Safety
///
/// `len` bytes at `at` are readable, and stay so and unchanged but for the loader's own patches while the slice lives.
pub(super) unsafe fn bytes_of<'a>(at: GuestAddr, len: u64) -> &'a [u8] {
    // SAFETY: as the caller vouches.
    unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(at.0 as usize), len as usize) }
}

impl Modules {
    /// The stubs that have been written.
    pub fn stubs(&self) -> impl Iterator<Item = u32> + use<> {
        trap::RESTORER_STUB + 1..self.next_stub
    }

    /// What one of them was made of; `None` if it stands for no site.
    #[must_use]
    pub fn stub(&self, index: u32) -> Option<stub::Fields<'_>> {
        let at = dispatch::in_stub(index.min(gate_asm::STUBS - 1), 0);
        // SAFETY: the gate is readable as far as there are stubs, and what has been written there stays as it is.
        let bytes = unsafe { &*core::ptr::with_exposed_provenance(at.0 as usize) };
        stub::read(bytes, at)
    }

    /// Replaces the proved system calls of a text; what can't be replaced is counted and stays as it is. Returns the
    /// end of the highest trampoline, or 0.
    pub fn patch(&mut self, job: &Job<'_, '_>) -> GuestAddr {
        if !forget_and_scan(&job.text, job.access) {
            return GuestAddr(0);
        }
        // SAFETY: `patch_hits` keeps nothing on the heap.
        unsafe { with_scratch(|| self.patch_hits(job)) }
    }

    fn patch_hits(&mut self, job: &Job<'_, '_>) -> GuestAddr {
        let functions = job.image.map_or_else(Functions::unknown, Functions::of);
        let Found { hits, dead_ends } = find::hits(&job.text, job.bias, &functions);
        let sites: Vec<Site> = hits
            .iter()
            .filter_map(|hit| match hit.verdict {
                Verdict::Site(site) => Some(site),
                Verdict::Inside(_) | Verdict::Restorer | Verdict::Unproved(_) => None,
            })
            .collect();
        self.unproved += hits.iter().filter(|hit| matches!(hit.verdict, Verdict::Unproved(_))).count() as u64;
        if sites.is_empty() {
            give_back(&job.text, job.access);
            return GuestAddr(0);
        }
        let gate = self.gate();
        let near_len = plan::near_len(&job.text, sites.len(), &gate);
        let rights = job.access.for_trampolines();
        let near = reserve_near(&job.text, near_len, rights);
        let draft = |room: &[AddrRange]| {
            plan::plan(Input {
                text: job.text,
                sites: &sites,
                bias: job.bias,
                functions: &functions,
                dead_ends: &dead_ends,
                gate,
                near,
                space: &mut Space::of(room),
            })
        };
        let (plan, landings) = landings::plan(&job.room.0, near, rights, draft);
        self.refused += plan.refusals.len() as u64;
        if self.apply(job, &plan, near, &landings).is_err() {
            self.refused += plan.stubs.len() as u64;
        }
        landings.iter().map(|page| page.wrapping_add(PAGE)).max().unwrap_or_default()
    }

    fn gate(&self) -> Gate {
        let first = self.next_stub.max(trap::RESTORER_STUB + 1);
        Gate {
            first_free: GuestAddr(gate_asm::stubs() + u64::from(first) * stub::LEN as u64),
            free: (gate_asm::STUBS - first) as usize,
            policy: policy_address(),
            hooked: GuestAddr(enter_asm::hooked as *const () as u64),
        }
    }

    /// Writes what the plan says: first all that a patched site leads to, then the sites.
    fn apply(
        &mut self,
        job: &Job<'_, '_>,
        plan: &Plan,
        near: Option<AddrRange>,
        landings: &[GuestAddr],
    ) -> Result<(), Errno> {
        self.write_stubs(plan)?;
        for trampoline in &plan.trampolines {
            // SAFETY: it lies in the near area or on the landing pages, which nobody else writes.
            unsafe { job.access.write(trampoline.at, &trampoline.bytes) }?;
        }
        let pages = landings.iter().map(|&page| AddrRange::new(page, page.wrapping_add(PAGE)));
        for area in near.into_iter().chain(pages) {
            mem::protect(area, Protection::READ_EXECUTE)?;
            STATE.patched.insert(area);
        }
        STATE.patched.insert(AddrRange::new(job.text.at, job.text.addr(job.text.bytes.len())));
        if !plan.traps.is_empty() {
            trap::arm()?;
            if !plan.traps.iter().all(|site| trap::add(site.at, site.entry)) {
                return Err(Errno::ENOMEM);
            }
        }
        for edit in &plan.edits {
            // SAFETY: the text is as the job says; the edit lies inside it.
            unsafe { job.access.write(edit.at, &edit.new) }?;
        }
        Ok(())
    }

    fn write_stubs(&mut self, plan: &Plan) -> Result<(), Errno> {
        let restorer = self.next_stub == 0;
        let first = if restorer { trap::RESTORER_STUB } else { self.next_stub };
        let mut bytes = Vec::with_capacity((plan.stubs.len() + 1) * stub::LEN);
        if restorer {
            bytes.extend_from_slice(&trap::restorer_stub());
        }
        plan.stubs.iter().for_each(|stub| bytes.extend_from_slice(&stub.bytes));
        let start = GuestAddr(gate_asm::stubs() + u64::from(first) * stub::LEN as u64);
        let range = text::pages(AddrRange::new(start, start.wrapping_add(bytes.len() as u64)));
        text::write_fresh(range, &bytes)?;
        let used = first + (bytes.len() / stub::LEN) as u32;
        self.next_stub = used.next_multiple_of(STUBS_A_PAGE);
        Ok(())
    }
}

/// Maps `len` bytes within reach of all of `text`: below it, where no break grows, else above.
fn reserve_near(text: &Text<'_>, len: u64, rights: Protection) -> Option<AddrRange> {
    const STEP: u64 = 1 << 16;
    const TRIES: u64 = 256;
    if len == 0 {
        return None;
    }
    let len = page_ceil(len)?;
    let end = text.addr(text.bytes.len()).0.checked_next_multiple_of(PAGE)?;
    let below = (1..=TRIES).filter_map(|step| text.at.0.checked_sub(len + step * STEP));
    let above = (1..=TRIES).filter_map(|step| end.checked_add(step * STEP));
    below.chain(above).find_map(|at| {
        let at = mem::map_anonymous(Place::Free(GuestAddr(at)), len, rights).ok()?;
        let area = AddrRange::new(at, at.wrapping_add(len));
        mem::name(area, c"loader:trampolines");
        Some(area)
    })
}

/// `mmap`: what becomes executable is patched first.
pub fn map(call: &Call) -> Step {
    let [_, len, prot, flags, fd, offset] = call.args;
    let protection = Protection::from_bits(prot as u32);
    let flags = flags as u32;
    let is_private_file = flags & ANONYMOUS == 0 && flags & TYPE == Sharing::Private.bits();
    if !is_private_file || !may_patch(call) {
        return Step::Pass;
    }
    if !protection.executable() {
        return Step::Tell(Returns::Once);
    }
    let Some(_blocked) = AllBlocked::new() else { return Step::Pass };
    let mut modules = lock();
    if !process::memory_may_become_executable() {
        return Step::Answer(modules.map_executable_first(call));
    }
    let mut quiet = *call;
    quiet.args[2] = protection.while_patching().bits().into();
    let Ok(at) = raw(&quiet) else {
        return Step::Answer(modules.map_executable_first(call));
    };
    let range = AddrRange::new(GuestAddr(at), GuestAddr(at.wrapping_add(page_ceil(len).unwrap_or(len))));
    modules.patch_file(range, Fd::from_argument(fd), offset, Access::Fresh);
    match mem::protect(range, protection) {
        Ok(()) => Step::Answer(Outcome(at)),
        Err(_) => {
            // Only the call itself knows its errno (a file system without execution, a policy).
            mem::unmap(range);
            Step::Answer(modules.map_executable_first(call))
        }
    }
}

/// Whether code may be patched that `call` makes executable: not where filters look at where calls come from, nor where
/// one has something to say to the call itself, which it must then say to the program's own.
fn may_patch(call: &Call) -> bool {
    STATE.address_filters.load(core::sync::atomic::Ordering::Relaxed) == 0
        && crate::sys::seccomp::allows(call.nr, call.args)
}

/// Makes a call as it is.
fn raw(call: &Call) -> Result<u64, Errno> {
    // SAFETY: it is the program's own mapping call, or one with fewer rights.
    unsafe { crate::sys::program_call(call.nr, call.args) }
}

impl Modules {
    /// The other order, where a private writable mapping can't be had (RLIMIT_DATA, strict overcommit): maps, then
    /// patches what nobody can have jumped to yet.
    fn map_executable_first(&mut self, call: &Call) -> Outcome {
        let [_, len, _, _, fd, offset] = call.args;
        match raw(call) {
            Ok(at) => {
                let end = at.wrapping_add(page_ceil(len).unwrap_or(len));
                let range = AddrRange::new(GuestAddr(at), GuestAddr(end));
                self.patch_file(range, Fd::from_argument(fd), offset, Access::Executable);
                Outcome(at)
            }
            Err(errno) => Outcome::failure(errno),
        }
    }

    /// Patches pages that were mapped from `offset` of the file behind `fd`.
    pub(super) fn patch_file(&mut self, range: AddrRange, fd: Fd, offset: u64, access: Access) {
        let Ok(facts) = file::facts(fd) else { return };
        let in_file = page_ceil(facts.len).unwrap_or(0).saturating_sub(offset);
        // SAFETY: the pages were just mapped readable, and the file reaches that far.
        let bytes = unsafe { bytes_of(range.start, range.len().min(in_file)) };
        let text = Text { at: range.start, bytes };
        if forget_and_scan(&text, access) {
            let was_armed = STATE.traps.is_armed();
            // SAFETY: the image lives no longer than the call, and `patch_hits` keeps nothing on the heap.
            unsafe { with_scratch(|| self.patch_viewed(text, fd, offset, access)) };
            if STATE.traps.is_armed() && !was_armed {
                trap::unblock_in_handlers();
            }
        }
    }

    fn patch_viewed(&mut self, text: Text<'_>, fd: Fd, offset: u64, access: Access) {
        let view = View::of(fd).ok();
        let image = view.as_ref().and_then(|view| Image::parse(view.bytes()).ok());
        let vaddr = image.as_ref().and_then(|image| vaddr_of(image, offset));
        self.patch_hits(&Job {
            text,
            access,
            image: vaddr.and(image.as_ref()),
            bias: text.at.0.wrapping_sub(vaddr.unwrap_or(text.at.0)),
            room: Room::around(AddrRange::new(text.at, text.addr(text.bytes.len()))),
        });
    }
}

/// Forgets what was known of these addresses; returns whether there is anything to patch.
fn forget_and_scan(text: &Text<'_>, access: Access) -> bool {
    let range = AddrRange::new(text.at, text.addr(text.bytes.len()));
    trap::forget(range);
    STATE.patched.remove(range);
    let has_hits = SyscallBytes::of(text.bytes).next().is_some();
    if !has_hits {
        give_back(text, access);
    }
    has_hits
}

/// Unmaps the file's pages that only the scan has touched: the program will want few of them.
fn give_back(text: &Text<'_>, access: Access) {
    if access == Access::Fresh {
        mem::discard(AddrRange::new(text.at, text.addr(text.bytes.len())));
    }
}

/// Runs `patch` and gives back the heap that it took, unless the decoder made its tables there, which it does once.
///
/// # Safety
///
/// `patch` leaves nothing behind that was allocated in it.
unsafe fn with_scratch<R>(patch: impl FnOnce() -> R) -> R {
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

/// After an `mmap` of a file that is not executable: it may become so.
pub fn note_mapping(call: &Call, outcome: Outcome) {
    if call.nr != crate::abi::sysno::MMAP || outcome.errno().is_some() {
        return;
    }
    let end = outcome.0.wrapping_add(page_ceil(call.args[1]).unwrap_or(0));
    STATE.file_pages.insert(AddrRange::new(GuestAddr(outcome.0), GuestAddr(end)));
}

/// `mprotect` and `pkey_mprotect`: pages of a file that become executable are patched first.
pub fn protect(call: &Call) -> Step {
    let [at, len, prot, ..] = call.args;
    let protection = Protection::from_bits(prot as u32);
    let range = AddrRange::new(GuestAddr(at), GuestAddr(at.wrapping_add(page_ceil(len).unwrap_or(0))));
    if protection == Protection::READ {
        // That is how dynamic loaders close what they have relocated: all that they have loaded is on their list.
        rendezvous::changed();
    }
    if protection.executable() && STATE.file_pages.overlaps(range) && may_patch(call) {
        let Some(_blocked) = AllBlocked::new() else { return Step::Pass };
        file_pages::patch(&mut lock(), range);
        // Made here, before a signal can interrupt: made again after each, it might never come to its end.
        return Step::Answer(match raw(call) {
            Ok(value) => Outcome(value),
            Err(errno) => Outcome::failure(errno),
        });
    }
    Step::Pass
}

/// Takes the lock of all patching, with all signals blocked. If its last holder died over a patch, that is dropped: what
/// the lock guards is changed by single stores, so at worst a page of stubs is lost.
pub fn lock() -> RobustGuard<'static, Modules> {
    let modules = STATE.modules.lock();
    if modules.is_inherited() {
        // SAFETY: only the holder of this lock uses the heap, and it is dead.
        unsafe { heap::abandon_patch() };
    }
    modules
}

/// In a forked child: takes the lock away from a thread that has not come along.
///
/// # Safety
///
/// Whoever may hold it will never run again, and nobody waits.
pub unsafe fn break_lock() {
    if STATE.modules.is_locked() {
        // SAFETY: only the holder of this lock uses the heap, and it is not here.
        unsafe { heap::abandon_patch() };
        // SAFETY: as the caller vouches.
        unsafe { STATE.modules.force_unlock() };
    }
}
