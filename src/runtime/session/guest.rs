//! The program as tools see it: its memory, its ids, and the way out for their words. Zone: call.

use crate::addr::GuestAddr;
use crate::hook::tool::Guest;
use crate::runtime::session::{self, output};
use crate::runtime::tasks;
use crate::sys::{guest_memory, ids};

/// The memory that the calling thread sees.
///
/// The kernel does the reading and writing (`process_vm_readv` on the own process), so an address that is not mapped
/// is an answer and not a fault.
#[derive(Debug)]
pub(crate) struct Memory;

impl Guest for Memory {
    fn thread_id(&self) -> u32 {
        ids::thread_id()
    }

    fn process_id(&self) -> u32 {
        tasks::own_id()
    }

    fn read(&self, at: GuestAddr, into: &mut [u8]) -> usize {
        guest_memory::read_memory(at, into).unwrap_or(0)
    }

    fn write(&self, at: GuestAddr, from: &[u8]) -> usize {
        guest_memory::write_memory(at, from).unwrap_or(0)
    }

    fn emit(&self, line: &[u8]) {
        if let Some(session) = session::get()
            && session.output.append(line).is_err()
        {
            output::lose_line();
        }
    }
}
