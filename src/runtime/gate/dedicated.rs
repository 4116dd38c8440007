//! Slots that are dedicated to a stub and a number. Zone: call.

use crate::addr::GuestAddr;
use crate::plan::stub;
use crate::runtime::gate::dedications::{DEDICATIONS, ENTRIES};
use crate::runtime::gate::{slots, stubs};
use core::sync::atomic::Ordering;

/// What names a stub and a number in one word: as `hooked` packs them, without the flags.
pub(crate) const fn key_of(stub: u32, nr: u32) -> u64 {
    (nr.swap_bytes() as u64) << 32 | (stub as u64) << 16
}

/// The entry for a stub and a number.
const fn index_of(stub: u32, nr: u32) -> usize {
    (stub ^ nr) as usize % ENTRIES
}

/// The slot for the calls numbered `nr` of a stub that goes back to `back`, dedicated now if need be. Behind the call it
/// jumps to `landing`. `None` if its place in the table is another's.
pub(crate) fn slot(stub: u32, nr: u32, back: GuestAddr, landing: u64) -> Option<GuestAddr> {
    let entry = DEDICATIONS.entries.get(index_of(stub, nr))?;
    let key = key_of(stub, nr);
    match entry.key.load(Ordering::Acquire) {
        0 => {}
        known => return (known == key).then(|| GuestAddr(entry.slot.load(Ordering::Relaxed))),
    }
    let resume = stubs::in_stub(stub, stub::RETURN);
    let slot = slots::dedicate(&slots::Dedication { stub, nr, landing, back, resume })?;
    // Last, so that whoever is killed or forked away before it leaves the entry free.
    if entry.slot.compare_exchange(0, slot.0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        slots::release_dedicated(slot);
        return None; // another thread was first, at this moment
    }
    entry.key.store(key, Ordering::Release);
    Some(slot)
}

/// The stub goes back to `back` from now on: so do the slots that are dedicated to it, in the eyes of a debugger.
pub(crate) fn move_slots(stub: u32, back: GuestAddr) {
    for entry in &DEDICATIONS.entries {
        let key = entry.key.load(Ordering::Acquire);
        if key != 0 && (key >> 16) as u16 == stub as u16 {
            slots::set_back(GuestAddr(entry.slot.load(Ordering::Relaxed)), back);
        }
    }
}
