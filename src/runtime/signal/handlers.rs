//! The program's signal handlers as the kernel knows them: one entry in the gate for each, and one for each thing that the
//! loader itself handles. Zone: call.
//!
//! The entry is made for one handler's address and never for another, so an action can be read back from what the kernel
//! says, and no table of actions can go stale where processes share memory or handlers, or don't.

use crate::abi::signal::{SA_RESTORER, SA_SIGINFO, SigAction};
use crate::addr::{AddrRange, GuestAddr, PAGE};
use crate::runtime::gate::layout::{HANDLER_LEN, HANDLERS};
use crate::runtime::gate::{enter_asm, gate_asm, pages};
use crate::runtime::memory::code_writer;
use crate::runtime::signal::reservable::RESERVABLE;
use crate::sys::signal::AllBlocked;
use crate::x86::encode;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What reserved signals are delivered to, in place of a handler's address.
const RESERVED: u64 = 1;

/// What signals that end the process are delivered to.
const FATAL: u64 = 2;

/// Marks the address of a handler that is told why a signal came: for the others the kernel leaves that out of the frame.
const INFORMED: u64 = 1 << 63;

/// Marks one whose mask has the first of the signals that can be reserved, which the kernel's may not have; the bits below
/// stand for the others.
const MASKING: u64 = 1 << 62;

const ADDRESS: u64 = masking_bit(RESERVABLE.len() - 1) - 1;

/// The mark of a handler whose mask has the signal at `place` of [`RESERVABLE`].
const fn masking_bit(place: usize) -> u64 {
    MASKING >> place
}

/// What an entry was made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handler {
    /// A handler of the program's.
    Program {
        /// Its address.
        at: GuestAddr,
        /// Whether it was installed with `SA_SIGINFO`.
        is_informed: bool,
    },
    /// The loader's own, for reserved signals.
    Reserved,
    /// The loader's own, for a signal that ends the process.
    Fatal,
}

/// The handlers that have entries: a hash table without removal.
#[derive(Debug)]
pub(crate) struct Handlers {
    addresses: [AtomicU64; HANDLERS],
    /// The restorer that each was last installed with.
    restorers: [AtomicU64; HANDLERS],
    /// The restorer that any was last installed with; 0 while there was none.
    restorer: AtomicU64,
    /// 1 once the entries' code is written.
    ready: AtomicU32,
}

impl Handlers {
    /// No handler.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            addresses: [const { AtomicU64::new(0) }; HANDLERS],
            restorers: [const { AtomicU64::new(0) }; HANDLERS],
            restorer: AtomicU64::new(0),
            ready: AtomicU32::new(0),
        }
    }

    /// The place of `address`, taken now if it has none yet; `None` if all are taken by others.
    fn place(&self, address: u64) -> Option<usize> {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 divided by the golden ratio
        let first = (address.wrapping_mul(SPREAD) >> 56) as usize;
        (0..HANDLERS).map(|step| (first + step) % HANDLERS).find(|&index| {
            self.addresses.get(index).is_some_and(|slot| {
                let taken = slot.compare_exchange(0, address, Ordering::Relaxed, Ordering::Relaxed);
                taken.is_ok() || taken == Err(address)
            })
        })
    }
}

/// Those of this memory. A fork keeps them.
static HANDLED: Handlers = Handlers::new();

impl Default for Handlers {
    fn default() -> Self {
        Self::new()
    }
}

/// The entry for the handler of `action`. `None` if there is none and none can be made any more.
pub(crate) fn entry(action: &SigAction) -> Option<u64> {
    let informed = if action.flags & SA_SIGINFO != 0 { INFORMED } else { 0 };
    let masked = RESERVABLE.iter().enumerate().filter(|(_, signal)| action.mask.contains(**signal));
    let masking = masked.fold(0, |marks, (place, _)| marks | masking_bit(place));
    let index = HANDLED.place(action.handler | informed | masking)?;
    HANDLED.restorers.get(index)?.store(action.restorer, Ordering::Relaxed);
    HANDLED.restorer.store(action.restorer, Ordering::Relaxed);
    make_ready()?;
    Some(code_of(index))
}

/// Where in the program's own restorer a thread would be that is `offset` bytes into the gate's. Programs have one, the C
/// library's.
#[must_use]
pub(crate) fn in_own_restorer(offset: u64) -> Option<GuestAddr> {
    let restorer = HANDLED.restorer.load(Ordering::Relaxed);
    (restorer != 0).then(|| GuestAddr(restorer).wrapping_add(offset))
}

/// The entry for reserved signals. Called with all signals blocked once the program runs.
pub(crate) fn reserved_entry() -> Option<u64> {
    write_entries()?;
    HANDLED.place(RESERVED).map(code_of)
}

/// The entry for signals that end the process. `None` if none can be made any more.
pub(crate) fn fatal_entry() -> Option<u64> {
    make_ready()?;
    HANDLED.place(FATAL).map(code_of)
}

/// What the entry at `index` was made for.
#[must_use]
pub(crate) fn of(index: u32) -> Option<Handler> {
    match HANDLED.addresses.get(index as usize)?.load(Ordering::Relaxed) {
        0 => None,
        RESERVED => Some(Handler::Reserved),
        FATAL => Some(Handler::Fatal),
        address => {
            Some(Handler::Program { at: GuestAddr(address & ADDRESS), is_informed: address & INFORMED != 0 })
        }
    }
}

/// The program's action that the kernel has as `installed`, if that has an entry.
#[must_use]
pub(crate) fn behind(installed: &SigAction) -> Option<SigAction> {
    let index = index_of(GuestAddr(installed.handler))?;
    match of(index)? {
        Handler::Program { at, .. } => {
            let address = HANDLED.addresses.get(index as usize)?.load(Ordering::Relaxed);
            let mut action = SigAction { handler: at.0, ..*installed };
            if action.flags & SA_RESTORER != 0 {
                action.restorer = HANDLED.restorers.get(index as usize)?.load(Ordering::Relaxed);
            }
            let masked =
                RESERVABLE.into_iter().enumerate().filter(|(place, _)| address & masking_bit(*place) != 0);
            action.mask = masked.fold(action.mask, |mask, (_, signal)| mask.with(signal));
            Some(action)
        }
        Handler::Fatal => Some(SigAction::DEFAULT),
        Handler::Reserved => None,
    }
}

/// The entry that `at` lies in.
#[must_use]
pub(crate) fn index_of(at: GuestAddr) -> Option<u32> {
    let offset = at.0.checked_sub(gate_asm::handlers())? as usize;
    (offset < HANDLERS * HANDLER_LEN).then_some((offset / HANDLER_LEN) as u32)
}

fn code_of(index: usize) -> u64 {
    gate_asm::handlers() + (index * HANDLER_LEN) as u64
}

/// Writes the entries, if they are not yet.
pub(crate) fn make_ready() -> Option<()> {
    if HANDLED.ready.load(Ordering::Acquire) != 0 {
        return Some(());
    }
    let _blocked = AllBlocked::new()?;
    write_entries()
}

/// The same with all signals blocked.
fn write_entries() -> Option<()> {
    let is_ready = || HANDLED.ready.load(Ordering::Acquire) != 0;
    if is_ready() {
        return Some(());
    }
    let _pages = pages::lock();
    if is_ready() {
        return Some(()); // somebody else has written them meanwhile
    }
    let landing = GuestAddr(enter_asm::signalled as *const () as u64);
    let mut page = [encode::INT3; PAGE as usize];
    for (index, entry) in page.chunks_exact_mut(HANDLER_LEN).enumerate() {
        let code = entry_code(GuestAddr(code_of(index)), landing)?;
        entry.get_mut(..code.len())?.copy_from_slice(&code);
    }
    let start = GuestAddr(gate_asm::handlers());
    code_writer::write_fresh(AddrRange::new(start, start.wrapping_add(PAGE)), &page).ok()?;
    HANDLED.ready.store(1, Ordering::Release);
    Some(())
}

/// `lea rax, [rip - 7]`, the entry's own address; `jmp landing`.
fn entry_code(at: GuestAddr, landing: GuestAddr) -> Option<[u8; 12]> {
    let [a, b, c, d, e, f, g] = encode::rip_relative([0x48, 0x8d, 0x05], at, at)?;
    let [h, i, j, k, l] = encode::jmp_rel32(at.wrapping_add(7), landing)?;
    Some([a, b, c, d, e, f, g, h, i, j, k, l])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_has_one_place_and_shares_it_with_nobody() {
        let handlers = std::boxed::Box::new(Handlers::new());
        let places: std::collections::BTreeSet<_> =
            (0..HANDLERS as u64).map(|at| handlers.place(0x40_0000 + 16 * at).unwrap()).collect();
        assert_eq!(places.len(), HANDLERS);
        assert_eq!(handlers.place(0x40_0000), handlers.place(0x40_0000));
        assert_eq!(handlers.place(0x50_0000), None);
    }

    #[test]
    fn an_entry_loads_its_own_address() {
        let code = entry_code(GuestAddr(0x1000), GuestAddr(0x2000)).unwrap();
        assert_eq!(code[..7], [0x48, 0x8d, 0x05, 0xf9, 0xff, 0xff, 0xff]);
        assert_eq!(code[7], encode::JMP_REL32);
    }
}
