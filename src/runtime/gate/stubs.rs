//! The stubs as they stand in the gate: their addresses, and what each was made of. Zone: call.

use crate::addr::{AddrRange, GuestAddr};
use crate::plan::stub::{self, Fields, Standing};
use crate::runtime::gate::{gate_asm, layout};

/// An address in stub `index`.
#[must_use]
pub(crate) fn in_stub(index: u32, offset: usize) -> GuestAddr {
    GuestAddr(gate_asm::stubs()).wrapping_add(u64::from(index) * stub::LEN as u64 + offset as u64)
}

/// The address after the site of stub `index`, from the stub itself.
#[must_use]
pub(crate) fn way_back(index: u32) -> GuestAddr {
    let at = in_stub(index, stub::BACK);
    // SAFETY: the call came through this stub, so it is written, and its page stays readable.
    GuestAddr(unsafe { *core::ptr::with_exposed_provenance::<u64>(at.0 as usize) })
}

/// All of them.
#[must_use]
pub(crate) fn range() -> AddrRange {
    AddrRange::new(GuestAddr(gate_asm::stubs()), GuestAddr(gate_asm::slots()))
}

/// The number of the stub that an address lies in.
#[must_use]
pub(crate) fn index_of(at: GuestAddr) -> u32 {
    (at.0.wrapping_sub(gate_asm::stubs()) / stub::LEN as u64) as u32
}

pub(crate) fn bytes_of(index: u32) -> &'static [u8; stub::LEN] {
    let at = in_stub(index.min(layout::STUBS - 1), 0);
    // SAFETY: all of the gate is readable, and what is written there changes only where nobody looks any more.
    unsafe { &*core::ptr::with_exposed_provenance(at.0 as usize) }
}

/// What a stub was made of; `None` if it stands for no site yet.
pub(crate) fn fields(index: u32) -> Option<Fields<'static>> {
    stub::read(bytes_of(index), in_stub(index, 0))
}

/// The last byte of the site.
pub(crate) fn last_byte(index: u32) -> GuestAddr {
    way_back(index).wrapping_sub(1)
}

/// The address of the original instruction that one in a stub stands for.
pub(crate) fn origin(at: GuestAddr) -> Option<GuestAddr> {
    let (fields, offset) = stub_around(at)?;
    Some(if stub::standing(offset) == Standing::Evicted { fields.evicted_from() } else { fields.site() })
}

/// The stub that `at` lies in, and how far into it.
pub(crate) fn stub_around(at: GuestAddr) -> Option<(Fields<'static>, usize)> {
    if !range().contains(at) {
        return None;
    }
    let offset = at.0 as usize % stub::LEN;
    let start = at.wrapping_sub(offset as u64);
    // SAFETY: the gate's pools are readable, and nobody changes a stub that a thread is in.
    let bytes = unsafe { &*core::ptr::with_exposed_provenance::<[u8; stub::LEN]>(start.0 as usize) };
    Some((stub::read(bytes, start)?, offset))
}
