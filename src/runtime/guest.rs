//! The program as tools see it: its memory, its ids, and the way out for their words. Zone: call.

use crate::abi::errno::Errno;
use crate::addr::GuestAddr;
use crate::hook::tool::Guest;
use crate::runtime::state::{STATE, count};
use crate::sys::process;

/// The memory that the calling thread sees.
///
/// The kernel does the reading and writing (`process_vm_readv` on the own process), so an address that is not mapped
/// is an answer and not a fault.
#[derive(Debug)]
pub struct Memory;

impl Guest for Memory {
    fn thread_id(&self) -> u32 {
        process::thread_id()
    }

    fn process_id(&self) -> u32 {
        process::id()
    }

    fn read(&self, at: GuestAddr, into: &mut [u8]) -> usize {
        process::read_memory(at, into).unwrap_or(0)
    }

    fn write(&self, at: GuestAddr, from: &[u8]) -> usize {
        process::write_memory(at, from).unwrap_or(0)
    }

    fn emit(&self, line: &[u8]) {
        if let Some(frozen) = STATE.frozen()
            && frozen.output.append(line).is_err()
        {
            count(&STATE.lost_lines);
        }
    }
}

/// Bytes that a call of the program's points at, without asking the kernel where there is no need: what lies a little above
/// the stack pointer is the stack. Where the kernel may not be asked, a bad address is a fault, as it would be in the
/// vDSO. `None` if they can't be read.
pub fn read<const LEN: usize>(at: GuestAddr, stack: GuestAddr) -> Option<[u8; LEN]> {
    const NEAR: u64 = 64 << 10;
    let mut bytes = [0_u8; LEN];
    let is_on_stack = at >= stack && at.0 - stack.0 < NEAR;
    if !is_on_stack {
        match process::read_memory(at, &mut bytes) {
            Ok(len) => return (len == LEN).then_some(bytes),
            Err(Errno::EFAULT) => return None,
            Err(_) => {}
        }
    }
    // SAFETY: it is mapped, or the program has passed the kernel a bad address.
    Some(unsafe { core::ptr::with_exposed_provenance::<[u8; LEN]>(at.0 as usize).read() })
}
