//! Sites that trap, and where they go. Zone: call.
//!
//! The last tactic, and boundaries that nothing is known to enter, have bytes that raise SIGILL (`ud2`, guaranteed by
//! SDM 2B). Sites that stay as they are raise SIGSYS where the [net](crate::runtime::net) is out. What is done about
//! either is no more than to send the thread to the site's stub, which makes the call with the state of that moment.

use crate::abi::errno::Errno;
use crate::abi::signal::Signal;
use crate::addr::{AddrRange, GuestAddr};
use crate::find::site::RESTORER;
use crate::plan::{relay, stub};
use crate::runtime::frame::Frame;
use crate::runtime::state::STATE;
use crate::runtime::{gate_asm, int80, reserved, stubs};
use crate::x86::encode::INT3;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Sites that can trap at the same time.
const CAPACITY: usize = 16_384;

/// The signal that the bytes of a trap raise.
pub const SIGNAL: Signal = Signal::SIGILL;

/// The stub that holds [`RESTORER`] instead of a site.
pub const RESTORER_STUB: u32 = 0;
/// Where in it a call is made for which there is no stack: `syscall; jmp rbx`.
pub const BARE_CALL: usize = 16;
/// Where in it a signal ends that no handler of the program's is to see.
const WAY_OUT: usize = 32;

/// The bytes of the restorer's stub.
#[must_use]
pub fn restorer_stub() -> [u8; stub::LEN] {
    let mut bytes = [INT3; stub::LEN];
    for (start, part) in [(0, &RESTORER[..]), (BARE_CALL, &[0x0f, 0x05, 0xff, 0xe3]), (WAY_OUT, &RESTORER)] {
        bytes.iter_mut().skip(start).zip(part).for_each(|(to, from)| *to = *from);
    }
    bytes
}

/// Where a signal ends that no handler of the program's is to see: its frame lies above the stack pointer.
#[must_use]
pub fn way_out() -> GuestAddr {
    restorer().wrapping_add(WAY_OUT as u64)
}

/// Whether such a signal is about to end, if the next instruction is at `at`.
#[must_use]
pub fn is_on_way_out(at: GuestAddr) -> bool {
    at.0.wrapping_sub(way_out().0) < RESTORER.len() as u64
}

/// How far `at` is into the restorer, if it is there.
#[must_use]
pub fn offset_in_restorer(at: GuestAddr) -> Option<u64> {
    let offset = at.0.wrapping_sub(restorer().0);
    (offset < RESTORER.len() as u64).then_some(offset)
}

/// Whether `at` is at the bare call, or behind it.
#[must_use]
pub fn is_in_bare_call(at: GuestAddr) -> bool {
    (BARE_CALL as u64..BARE_CALL as u64 + 4).contains(&at.0.wrapping_sub(restorer().0))
}

/// Where each trapping site goes; appended to under the modules' lock, read by the handler at any time.
#[derive(Debug)]
pub struct Traps {
    sites: [AtomicU64; CAPACITY],
    entries: [AtomicU64; CAPACITY],
    len: AtomicU32,
}

impl Traps {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sites: [const { AtomicU64::new(0) }; CAPACITY],
            entries: [const { AtomicU64::new(0) }; CAPACITY],
            len: AtomicU32::new(0),
        }
    }

    /// The sites that trap.
    pub fn sites(&self) -> impl Iterator<Item = GuestAddr> {
        let len = self.len.load(Ordering::Acquire) as usize;
        let sites = self.sites.iter().take(len).map(|at| GuestAddr(at.load(Ordering::Acquire)));
        sites.filter(|site| site.0 != 0)
    }

    fn entry_of(&self, site: GuestAddr) -> Option<u64> {
        let len = self.len.load(Ordering::Acquire) as usize;
        let index = self.sites.iter().take(len).position(|at| at.load(Ordering::Acquire) == site.0)?;
        self.entries.get(index).map(|entry| entry.load(Ordering::Relaxed))
    }
}

impl Default for Traps {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a trap at `site` goes.
pub fn entry_of(site: GuestAddr) -> Option<GuestAddr> {
    STATE.traps.entry_of(site).map(GuestAddr)
}

/// Makes a trap at `site` go to `entry` from now on. Returns false if the table is full: the site must not trap then.
#[must_use]
pub fn add(site: GuestAddr, entry: GuestAddr) -> bool {
    let traps = &STATE.traps;
    let len = traps.len.load(Ordering::Relaxed) as usize;
    let find = |wanted: u64| traps.sites.iter().take(len).position(|at| at.load(Ordering::Relaxed) == wanted);
    let free = find(site.0).or_else(|| find(0)).unwrap_or(len);
    let (Some(at), Some(to)) = (traps.sites.get(free), traps.entries.get(free)) else { return false };
    to.store(entry.0, Ordering::Relaxed);
    at.store(site.0, Ordering::Release);
    if free == len {
        traps.len.store(len as u32 + 1, Ordering::Release);
    }
    true
}

/// Forgets the traps in `range`, whose bytes are about to be others.
pub fn forget(range: AddrRange) {
    retain(range, |_| false);
}

/// Forgets the traps in `range` but for those whose entry is `kept`.
pub fn retain(range: AddrRange, kept: impl Fn(GuestAddr) -> bool) {
    let traps = &STATE.traps;
    let len = traps.len.load(Ordering::Relaxed) as usize;
    for (at, entry) in traps.sites.iter().zip(&traps.entries).take(len) {
        let is_in_range = range.contains(GuestAddr(at.load(Ordering::Relaxed)));
        if is_in_range && !kept(GuestAddr(entry.load(Ordering::Relaxed))) {
            at.store(0, Ordering::Release);
        }
    }
}

/// The gate's restorer.
#[must_use]
pub fn restorer() -> GuestAddr {
    GuestAddr(gate_asm::stubs()).wrapping_add(u64::from(RESTORER_STUB) * stub::LEN as u64)
}

/// Sends a thread that has met a trap to its stub. Returns false if it has met something else.
#[must_use]
pub fn serve(frame: Frame) -> bool {
    let at = GuestAddr(frame.context().rip);
    // Where none is known any more, a jump to a stub may have taken its place meanwhile.
    let jump = || relay::entry_from(at, stubs::range(), |at| STATE.patched.window(at), |_| Some(at));
    let entry = entry_of(at).or_else(|| jump().filter(|_| frame.info().code > 0));
    entry.inspect(|entry| int80::go_on(frame, *entry)).is_some()
}

/// Takes the signal that traps raise for the loader.
///
/// # Errors
///
/// The kernel's.
pub fn arm() -> Result<(), Errno> {
    reserved::reserve(SIGNAL)
}

/// Whether that has been done.
#[must_use]
pub fn is_armed() -> bool {
    reserved::owns(SIGNAL)
}
