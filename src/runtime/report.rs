//! What the report is made from: filled in while code is patched, gathered when the process ends. Zone: call.
//!
//! A run without a report has no ledger and does nothing here. With one, the ledger's memory is mapped before the program
//! is, private: a forked child goes on with a copy. Names come from `/proc/self/maps`, as the kernel has them.

use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr};
use crate::find::search::Found;
use crate::find::site::{Text, Verdict};
use crate::options;
use crate::plan::Plan;
use crate::report::json::Json;
use crate::report::ledger::{Kind, Ledger, Left, Module, NAME_MAX, Place, Presence};
use crate::report::{Caught, Facts, Net, Report, text};
use crate::runtime::natively::AsJson;
use crate::runtime::net::{self, Standing};
use crate::runtime::state::{Frozen, STATE};
use crate::runtime::{gate_asm, maps, processes, stubs, trap};
use crate::sys::mem;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// What is counted for the report; all zero at first.
#[derive(Debug)]
pub struct Noted {
    /// The address of the [`Ledger`]; 0 in a run without a report.
    ledger: AtomicU64,
    /// Requests for memory that is writable and executable at once.
    pub writable: AtomicU64,
    /// Executable mappings of shared pages.
    pub shared: AtomicU64,
    /// What may be system call instructions in them.
    pub shared_hits: AtomicU64,
    /// The highest number of a stub that has been a site's.
    stubs: AtomicU64,
}

impl Noted {
    /// Nothing, and no ledger.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ledger: AtomicU64::new(0),
            writable: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            shared_hits: AtomicU64::new(0),
            stubs: AtomicU64::new(0),
        }
    }
}

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
pub fn set_up(frozen: &Frozen) -> Result<(), Errno> {
    if frozen.report.is_some() {
        let len = size_of::<Ledger>().next_multiple_of(4096) as u64;
        let at = mem::map_anonymous(mem::Place::Anywhere, len, Protection::READ_WRITE)?;
        STATE.noted.ledger.store(at.0, Ordering::Release);
    }
    Ok(())
}

fn ledger() -> Option<&'static Ledger> {
    let at = STATE.noted.ledger.load(Ordering::Acquire);
    // SAFETY: `set_up` has mapped room for it, which stays; all bytes zero is a valid ledger, and it is all atomics.
    unsafe { core::ptr::with_exposed_provenance::<Ledger>(at as usize).as_ref() }
}

/// A text in which nothing can be a system call: a module like others, unless it is memory without a file.
pub fn note_without_hits(range: AddrRange) {
    let Some(ledger) = ledger() else { return };
    with_place(range, 0, |place| {
        if place.kind != Kind::Memory {
            ledger.look(place);
        }
    });
}

/// What has become of a text, whose memory lies `shift` bytes on for now.
#[inline(never)]
pub fn note(text: &Text<'_>, shift: u64, found: &Found, plan: Option<&Plan>, is_applied: bool) {
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
                STATE.noted.stubs.fetch_max(number.into(), Ordering::Relaxed);
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

/// Writes the report of the calling process, if there is to be one.
pub fn print(frozen: &Frozen, out: &mut dyn fmt::Write) {
    let (Some(form), Some(ledger)) = (frozen.report, ledger()) else { return };
    let natives = AsJson(&frozen.tree.natives);
    let report = Report {
        facts: facts(frozen, look_around(ledger)),
        ledger,
        natives: processes::is_root().then_some(&natives as &dyn fmt::Display),
    };
    // Nobody is left to hear of an error of the output.
    let _ = match form {
        options::Report::Text => write!(out, "{}", text::Text(report)),
        options::Report::Json => write!(out, "{}", Json(report)),
    };
}

fn facts(frozen: &Frozen, mappings: Option<u64>) -> Facts<'_> {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Facts {
        process: processes::own_id(),
        program: frozen.program.to_bytes(),
        intercept: frozen.intercept,
        is_strict: frozen.is_strict,
        net: match net::standing() {
            Standing::Off => Net::Off,
            Standing::NotNeeded => Net::NotNeeded,
            Standing::Out { why, place, since_start } => {
                let place = Some(place).filter(|place| place.0 != 0);
                Net::Armed { why: why.text(), place, since_start }
            }
            Standing::Unavailable(errno) => Net::Unavailable(errno),
        },
        caught: Caught {
            calls: count(&STATE.net.served),
            bare: count(&STATE.net.bare),
            patched: count(&STATE.net.patched),
            unarmed: count(&STATE.net.unarmed),
        },
        writable: count(&STATE.noted.writable),
        shared: count(&STATE.noted.shared),
        shared_hits: count(&STATE.noted.shared_hits),
        rings: count(&STATE.rings),
        refuses_io_uring: frozen.refuses_io_uring,
        missed_results: count(&STATE.missed_exits),
        stubs: (count(&STATE.noted.stubs), (gate_asm::STUBS - 1 - trap::RESTORER_STUB).into()),
        trampolines: STATE.patched.trampolines() as u64,
        mappings,
    }
}

/// Notes which modules are still mapped; returns how many mappings there are, if the kernel says.
fn look_around(ledger: &Ledger) -> Option<u64> {
    let modules = || ledger.modules().iter().filter(|module| module.kind() != Kind::Memory);
    modules().for_each(|module| module.set_presence(Presence::Gone));
    let mut mappings = 0;
    let seen = maps::each_line(&mut |line| {
        mappings += 1;
        let is_it = |module: &&Module| module.inode() == line.inode && module.range().overlaps(&line.range);
        if line.protection.executable() {
            modules().filter(is_it).for_each(|module| module.set_presence(Presence::Mapped));
        }
        true
    });
    if seen.is_err() {
        modules().for_each(|module| module.set_presence(Presence::Unknown));
    }
    seen.is_ok().then_some(mappings)
}
