//! A program for tests: some bytes at one address, and a record of what was emitted.

use std::cell::RefCell;
use std::string::String;
use std::vec::Vec;

use super::tool::Guest;
use crate::addr::GuestAddr;

/// A program with one thread and one stretch of memory.
pub(crate) struct FakeGuest {
    base: GuestAddr,
    memory: RefCell<Vec<u8>>,
    emitted: RefCell<Vec<u8>>,
    process: u32,
}

impl FakeGuest {
    /// The id of its process and of its only thread.
    pub(crate) const ID: u32 = 42;

    /// A program that has `memory` at `base` and nothing else.
    pub(crate) fn new(base: u64, memory: &[u8]) -> Self {
        Self {
            base: GuestAddr(base),
            memory: RefCell::new(memory.to_vec()),
            emitted: RefCell::default(),
            process: Self::ID,
        }
    }

    /// The same program in another process.
    pub(crate) fn of_process(self, process: u32) -> Self {
        Self { process, ..self }
    }

    /// All that was emitted since this was last asked.
    pub(crate) fn take_emitted(&self) -> String {
        String::from_utf8(self.emitted.take()).expect("tools emit ASCII")
    }

    fn offset(&self, at: GuestAddr) -> Option<usize> {
        usize::try_from(at.0.checked_sub(self.base.0)?).ok()
    }
}

impl Guest for FakeGuest {
    fn thread_id(&self) -> u32 {
        self.process
    }

    fn process_id(&self) -> u32 {
        self.process
    }

    fn read(&self, at: GuestAddr, into: &mut [u8]) -> usize {
        let memory = self.memory.borrow();
        let there = self.offset(at).and_then(|offset| memory.get(offset..)).unwrap_or_default();
        let len = there.len().min(into.len());
        into[..len].copy_from_slice(&there[..len]);
        len
    }

    fn write(&self, at: GuestAddr, from: &[u8]) -> usize {
        let mut memory = self.memory.borrow_mut();
        let there = self.offset(at).and_then(|offset| memory.get_mut(offset..)).unwrap_or_default();
        let len = there.len().min(from.len());
        there[..len].copy_from_slice(&from[..len]);
        len
    }

    fn emit(&self, line: &[u8]) {
        self.emitted.borrow_mut().extend_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_end_where_the_memory_ends() {
        let guest = FakeGuest::new(0x1000, b"abcd");
        assert_eq!(guest.write(GuestAddr(0x1003), b"xyz"), 1);
        let mut bytes = [b'-'; 4];
        assert_eq!(guest.read(GuestAddr(0x1002), &mut bytes), 2);
        assert_eq!(&bytes, b"cx--");
        assert_eq!(guest.read(GuestAddr(0xfff), &mut bytes), 0);
        assert_eq!(guest.read(GuestAddr(0x1005), &mut bytes), 0);
    }
}
