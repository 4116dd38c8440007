//! The program as tools see it: its memory, its ids, and the way out for their words. Zone: call.

use crate::abi::errno::Errno;
use crate::addr::{AddrRange, GuestAddr};
use crate::hook::tool::Guest;
use crate::runtime::processes;
use crate::runtime::state::{STATE, count};
use crate::sys::{guest_memory, ids};

/// How far above the stack pointer the stack is taken to reach.
const STACK_NEAR: u64 = 64 << 10;

/// Reads `N` bytes of the program's without asking the kernel, where there is no doubt that they can be read: on the stack
/// a little above its pointer, or where a file is mapped. `None` elsewhere.
#[must_use]
pub fn peek<const N: usize>(at: GuestAddr, stack: GuestAddr) -> Option<[u8; N]> {
    let range = AddrRange { start: at, end: at.checked_add(N as u64)? };
    let near = AddrRange { start: stack, end: stack.checked_add(STACK_NEAR)? };
    let is_on_stack = near.contains(at) && range.end <= near.end;
    // SAFETY: the program's stack reaches beyond what a call's arguments point to; a file that has been unmapped again is
    // memory that natively the kernel would refuse to read.
    (is_on_stack || STATE.file_pages.holds(range))
        .then(|| unsafe { core::ptr::with_exposed_provenance::<[u8; N]>(at.0 as usize).read() })
}

/// The memory that the calling thread sees.
///
/// The kernel does the reading and writing (`process_vm_readv` on the own process), so an address that is not mapped
/// is an answer and not a fault.
#[derive(Debug)]
pub struct Memory;

impl Guest for Memory {
    fn thread_id(&self) -> u32 {
        ids::thread_id()
    }

    fn process_id(&self) -> u32 {
        processes::own_id()
    }

    fn read(&self, at: GuestAddr, into: &mut [u8]) -> usize {
        guest_memory::read_memory(at, into).unwrap_or(0)
    }

    fn write(&self, at: GuestAddr, from: &[u8]) -> usize {
        guest_memory::write_memory(at, from).unwrap_or(0)
    }

    fn emit(&self, line: &[u8]) {
        if let Some(frozen) = STATE.frozen()
            && frozen.output.append(line).is_err()
        {
            count(&STATE.lost_lines);
        }
    }
}

/// Bytes that a call of the program's points at; `None` if they can't be read. Where the kernel may not be asked, a bad
/// address is a fault, as it would be in the vDSO.
pub fn read<const N: usize>(at: GuestAddr, stack: GuestAddr) -> Option<[u8; N]> {
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
