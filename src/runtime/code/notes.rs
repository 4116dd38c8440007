//! What is noted for the report while code is patched. Zone: call.
//!
//! A run without a report has no ledger and does nothing here. With one, the ledger's memory is mapped before the program
//! is, private: a forked child goes on with a copy. Names come from `/proc/self/maps`, as the kernel has them.

use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr};
use crate::find::search::Found;
use crate::find::site::{Text, Verdict};
use crate::plan::Plan;
use crate::report::ledger::{Kind, Ledger, NAME_MAX, Place};
use crate::report::left::Left;
use crate::runtime::gate::stubs;
use crate::runtime::memory::maps;
use crate::runtime::session::Session;
use crate::sys::mem;
use core::sync::atomic::{AtomicU64, Ordering};

/// What is counted for the report; all zero at first.
#[derive(Debug)]
pub(crate) struct Noted {
    /// The address of the [`Ledger`]; 0 in a run without a report.
    ledger: AtomicU64,
    /// Requests for memory that is writable and executable at once.
    writable: AtomicU64,
    /// Executable mappings of shared pages.
    shared: AtomicU64,
    /// What may be system call instructions in them.
    shared_hits: AtomicU64,
    /// The highest number of a stub that has been a site's.
    stubs: AtomicU64,
}

impl Noted {
    /// Nothing, and no ledger.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            ledger: AtomicU64::new(0),
            writable: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            shared_hits: AtomicU64::new(0),
            stubs: AtomicU64::new(0),
        }
    }
}

/// What is noted in this process. A fork's child goes on with a copy.
static NOTED: Noted = Noted::new();

impl Default for Noted {
    fn default() -> Self {
        Self::new()
    }
}

/// Before the first code is patched: makes a ledger, if there is to be a report.
///
/// # Errors
///
/// The kernel's, when there is no memory.
pub(crate) fn set_up(session: &Session) -> Result<(), Errno> {
    if session.report.is_some() {
        let len = size_of::<Ledger>().next_multiple_of(4096) as u64;
        let at = mem::map_anonymous(mem::Place::Anywhere, len, Protection::READ_WRITE)?;
        NOTED.ledger.store(at.0, Ordering::Release);
    }
    Ok(())
}

pub(crate) fn ledger() -> Option<&'static Ledger> {
    let at = NOTED.ledger.load(Ordering::Acquire);
    // SAFETY: `set_up` has mapped room for it, which stays; all bytes zero is a valid ledger, and it is all atomics.
    unsafe { core::ptr::with_exposed_provenance::<Ledger>(at as usize).as_ref() }
}

/// A text in which nothing can be a system call: a module like others, unless it is memory without a file.
pub(crate) fn note_without_hits(range: AddrRange) {
    let Some(ledger) = ledger() else { return };
    with_place(range, 0, |place| {
        if place.kind != Kind::Memory {
            ledger.look(place);
        }
    });
}

/// What has become of a text, whose memory lies `shift` bytes on for now.
#[inline(never)]
pub(crate) fn note(text: &Text<'_>, shift: u64, found: &Found, plan: Option<&Plan>, is_applied: bool) {
    let Some(ledger) = ledger() else { return };
    with_place(text.range(), shift, |place| {
        let Some(index) = ledger.look(place) else { return };
        let offset = |at: GuestAddr| at.0.wrapping_sub(place.range.start.0).wrapping_add(place.offset);
        for hit in &found.hits {
            match hit.verdict {
                Verdict::Restorer => ledger.leave(index, offset(hit.at), Left::Restorer),
                Verdict::Unproved(unproved) => {
                    ledger.leave(index, offset(hit.at), Left::Unproved(unproved));
                }
                Verdict::Site(_) | Verdict::Inside(_) => {}
            }
        }
        for refusal in plan.into_iter().flat_map(|plan| &plan.refusals) {
            ledger.leave(index, offset(refusal.at), Left::Refused(refusal.reason));
        }
        for stub in plan.into_iter().flat_map(|plan| &plan.stubs) {
            if is_applied {
                let number = stubs::index_of(stub.at);
                NOTED.stubs.fetch_max(number.into(), Ordering::Relaxed);
                ledger.serve(index, number, stub.tactic);
            } else {
                ledger.leave(index, offset(stub.site.at), Left::Unwritten);
            }
        }
    });
}

/// Calls `then` with what the kernel says of the text in `range`, whose memory lies `shift` bytes on.
fn with_place(range: AddrRange, shift: u64, then: impl FnOnce(&Place<'_>)) {
    let at = range.start.wrapping_add(shift);
    let mut name = [0_u8; NAME_MAX];
    let mut len = 0;
    let mut place = Place { kind: Kind::Memory, name: b"", inode: 0, offset: range.start.0, range };
    let _ = maps::each_line(&mut |line| {
        if line.range.contains(at) {
            // Of a long name the end is kept.
            let skipped = line.name().count().saturating_sub(NAME_MAX);
            len = name.iter_mut().zip(line.name().skip(skipped)).map(|(to, byte)| *to = byte).count();
            place.inode = line.inode;
            if line.inode != 0 {
                place.kind = Kind::File;
                place.offset = line.offset.wrapping_add(at.0.wrapping_sub(line.range.start.0));
            }
        }
        line.range.end <= at
    });
    let name = name.get(..len).unwrap_or_default();
    if name == b"[vdso]" {
        place.kind = Kind::Vdso;
        place.offset = 0;
    }
    then(&Place { name, ..place });
}

/// Counts a request for memory that is writable and executable at once.
pub(crate) fn count_writable() {
    NOTED.writable.fetch_add(1, Ordering::Relaxed);
}

/// Counts an executable mapping of shared pages, in which there may be `hits` system call instructions.
pub(crate) fn count_shared(hits: u64) {
    NOTED.shared.fetch_add(1, Ordering::Relaxed);
    NOTED.shared_hits.fetch_add(hits, Ordering::Relaxed);
}

/// What has been counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Requests for memory that is writable and executable at once.
    pub writable: u64,
    /// Executable mappings of shared pages.
    pub shared: u64,
    /// What may be system call instructions in them.
    pub shared_hits: u64,
    /// The highest number of a stub that has been a site's.
    pub highest_stub: u64,
}

/// What has been counted so far.
#[must_use]
pub(crate) fn counts() -> Counts {
    let [writable, shared, shared_hits, highest_stub] =
        [&NOTED.writable, &NOTED.shared, &NOTED.shared_hits, &NOTED.stubs]
            .map(|counter| counter.load(Ordering::Relaxed));
    Counts { writable, shared, shared_hits, highest_stub }
}
