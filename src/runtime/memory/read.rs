//! Reading what a call of the program points at. Zone: call.

use crate::abi::errno::Errno;
use crate::addr::{AddrRange, GuestAddr};
use crate::runtime::memory::file_pages;
use crate::sys::guest_memory;

/// How far above the stack pointer the stack is taken to reach.
const STACK_NEAR: u64 = 64 << 10;

/// Reads `N` bytes of the program's without asking the kernel, where there is no doubt that they can be read: on the stack
/// a little above its pointer, or where a file is mapped. `None` elsewhere.
#[must_use]
pub(crate) fn peek<const N: usize>(at: GuestAddr, stack: GuestAddr) -> Option<[u8; N]> {
    let range = AddrRange { start: at, end: at.checked_add(N as u64)? };
    let near = AddrRange { start: stack, end: stack.checked_add(STACK_NEAR)? };
    let is_on_stack = near.contains(at) && range.end <= near.end;
    // SAFETY: the program's stack reaches beyond what a call's arguments point to; a file that has been unmapped again is
    // memory that natively the kernel would refuse to read.
    (is_on_stack || file_pages::known().holds(range))
        .then(|| unsafe { core::ptr::with_exposed_provenance::<[u8; N]>(at.0 as usize).read() })
}

/// Bytes that a call of the program's points at; `None` if they can't be read. Where the kernel may not be asked, a bad
/// address is a fault, as it would be in the vDSO.
pub(crate) fn read<const N: usize>(at: GuestAddr, stack: GuestAddr) -> Option<[u8; N]> {
    if let Some(bytes) = peek(at, stack) {
        return Some(bytes);
    }
    let mut bytes = [0_u8; N];
    match guest_memory::read_memory(at, &mut bytes) {
        Ok(len) => return (len == N).then_some(bytes),
        Err(Errno::EFAULT) => return None,
        Err(_) => {}
    }
    // SAFETY: it is mapped, or the program has passed the kernel a bad address.
    Some(unsafe { core::ptr::with_exposed_provenance::<[u8; N]>(at.0 as usize).read() })
}

/// # Safety
///
/// `len` bytes at `at` are readable, and stay so and unchanged but for the loader's own patches while the slice lives.
pub(crate) unsafe fn bytes_of<'a>(at: GuestAddr, len: u64) -> &'a [u8] {
    // SAFETY: as the caller vouches.
    unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(at.0 as usize), len as usize) }
}
