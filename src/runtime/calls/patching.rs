//! What all calls that change the code in memory have in common. Zone: load, and call with the patcher's lock held.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::map::{Protection, Sharing};
use crate::addr::{AddrRange, GuestAddr, PAGE, page_ceil};
use crate::find::site::Text;
use crate::runtime::backstop::sud;
use crate::runtime::code::concern::Reason;
use crate::runtime::code::job::Access;
use crate::runtime::code::notes;
use crate::runtime::code::patched::{self, Content};
use crate::runtime::code::patcher::{self, Patcher};
use crate::runtime::gate::block::Block;
use crate::runtime::gate::step::Step;
use crate::runtime::memory::maps::{self, Mapping};
use crate::runtime::memory::read;
use crate::sys::mem;
use crate::sys::signal::AllBlocked;
use crate::x86::scan::SyscallBytes;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether a thread has had reading imply execution (personality(2)). A fork keeps it.
static READING_EXECUTES: AtomicBool = AtomicBool::new(false);

/// From now on reading may imply execution, in one thread at least.
pub(super) fn let_reading_execute() {
    READING_EXECUTES.store(true, Ordering::Relaxed);
}

/// Whether threads may be executing code that is to be patched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Running {
    /// It has just come to where it is.
    Nobody,
    /// It may have been executable for long.
    Perhaps,
}

/// Whether pages with these rights can be executed: `personality` may have made reading imply it.
pub(crate) fn can_execute(protection: Protection) -> bool {
    protection.executable() || protection.readable() && READING_EXECUTES.load(Ordering::Relaxed)
}

/// Whether code may be patched that `call` makes executable: not where filters look at where calls come from, nor where
/// one has something to say to the call itself, which it must then say to the program's own.
pub(crate) fn may_patch(call: &Call) -> bool {
    !sud::has_address_filters() && crate::sys::seccomp::allows(call.nr, call.args)
}

/// The whole pages that `len` bytes at `at` take; `None` where the kernel would say EINVAL or ENOMEM.
pub(crate) fn pages(at: u64, len: u64) -> Option<AddrRange> {
    let end = at.checked_add(page_ceil(len)?)?;
    (at.is_multiple_of(PAGE) && at < end).then_some(AddrRange::new(GuestAddr(at), GuestAddr(end)))
}

/// Makes a call as it is.
pub(crate) fn raw(call: &Call) -> Result<u64, Errno> {
    // SAFETY: it is the program's own mapping call, or one with fewer rights.
    unsafe { crate::sys::program_call(call.nr, call.args) }
}

pub(crate) fn answer(result: Result<u64, Errno>) -> Step {
    Step::Answer(match result {
        Ok(value) => Outcome(value),
        Err(errno) => Outcome::failure(errno),
    })
}

/// Runs `change` with the lock held, in the name of the call on `block`; passes where signals can't be blocked.
pub(crate) fn with_patcher(block: &Block, change: impl FnOnce(&mut Patcher) -> Step) -> Step {
    let Some(_blocked) = AllBlocked::new() else { return Step::Pass };
    let mut patcher = patcher::lock();
    patcher.stubs.caller = block.stub;
    change(&mut patcher)
}

/// Looks where `range` is. Returns the part of it that can be read, up to its first page that can't.
pub(crate) fn readable(range: AddrRange) -> Text<'static> {
    let end = mem::readable_end(range);
    // SAFETY: the pages have just been readable. Who takes that away meanwhile would have made the call in question fail;
    // who writes to them while they are to become executable would run a mixture without the loader too.
    Text { at: range.start, bytes: unsafe { read::bytes_of(range.start, end.0 - range.start.0) } }
}

/// Whether there is something in `range` that may have to be patched, or that can't be read as it is.
pub(crate) fn needs_look(range: AddrRange) -> bool {
    let is_written = patched::known().texts(range).any(|(_, content)| content == Content::WrittenText);
    is_written || {
        let bytes = readable(range).bytes;
        (bytes.len() as u64) < range.len() || SyscallBytes::of(bytes).next().is_some()
    }
}

impl Patcher {
    /// What the program may write and execute from `at` on is never looked at again.
    pub(super) fn note_rights(&mut self, at: GuestAddr, protection: Protection) {
        if protection.writable() && can_execute(protection) {
            notes::count_writable();
            sud::need(self, Reason::Writable, at);
        }
    }

    /// Counts what may be calls in shared pages, which stay as they are, and which others may write to.
    pub(super) fn note_shared(&mut self, range: AddrRange) {
        sud::need(self, Reason::Shared, range.start);
        let hits = self.count_untouched(range);
        notes::count_shared(hits);
    }

    /// Counts what may be calls in pages that stay as they are. Returns how many there are.
    pub(super) fn count_untouched(&mut self, range: AddrRange) -> u64 {
        let hits = SyscallBytes::of(readable(range).bytes).count() as u64;
        self.unproved += hits;
        hits
    }

    /// Patches the code in `range`, whatever its rights, which stay as they are.
    #[inline(never)]
    pub(super) fn look(&mut self, range: AddrRange, running: Running) {
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

    pub(super) fn patch_mapping(&mut self, mapping: &Mapping, access: Access) {
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
    pub(super) fn give_back(&mut self, range: AddrRange) {
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
