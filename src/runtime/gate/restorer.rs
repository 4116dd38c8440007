//! The stub that is no site's: the return from signals, and a call for which there is no stack. Zone: call.

use crate::addr::GuestAddr;
use crate::find::site::RESTORER;
use crate::plan::stub;
use crate::runtime::gate::gate_asm;
use crate::x86::encode::INT3;

/// The stub that holds [`RESTORER`] instead of a site.
pub(crate) const RESTORER_STUB: u32 = 0;

/// Where in it a call is made for which there is no stack: `syscall; jmp rbx`.
pub(crate) const BARE_CALL: usize = 16;

/// Where in it a signal ends that no handler of the program's is to see.
const WAY_OUT: usize = 32;

/// The bytes of the restorer's stub.
#[must_use]
pub(crate) fn restorer_stub() -> [u8; stub::LEN] {
    let mut bytes = [INT3; stub::LEN];
    for (start, part) in [(0, &RESTORER[..]), (BARE_CALL, &[0x0f, 0x05, 0xff, 0xe3]), (WAY_OUT, &RESTORER)] {
        bytes.iter_mut().skip(start).zip(part).for_each(|(to, from)| *to = *from);
    }
    bytes
}

/// Where a signal ends that no handler of the program's is to see: its frame lies above the stack pointer.
#[must_use]
pub(crate) fn way_out() -> GuestAddr {
    restorer().wrapping_add(WAY_OUT as u64)
}

/// Whether such a signal is about to end, if the next instruction is at `at`.
#[must_use]
pub(crate) fn is_on_way_out(at: GuestAddr) -> bool {
    at.0.wrapping_sub(way_out().0) < RESTORER.len() as u64
}

/// How far `at` is into the restorer, if it is there.
#[must_use]
pub(crate) fn offset_in_restorer(at: GuestAddr) -> Option<u64> {
    let offset = at.0.wrapping_sub(restorer().0);
    (offset < RESTORER.len() as u64).then_some(offset)
}

/// Whether `at` is at the bare call, or behind it.
#[must_use]
pub(crate) fn is_in_bare_call(at: GuestAddr) -> bool {
    (BARE_CALL as u64..BARE_CALL as u64 + 4).contains(&at.0.wrapping_sub(restorer().0))
}

/// The gate's restorer.
#[must_use]
pub(crate) fn restorer() -> GuestAddr {
    GuestAddr(gate_asm::stubs()).wrapping_add(u64::from(RESTORER_STUB) * stub::LEN as u64)
}
