//! A `PT_LOAD` that can be mapped.
//!
//! Invariant: `vaddr + mem_size` is at most [`TASK_SIZE`], `file_size` is at most `mem_size`, and if there
//! are file bytes, `offset` and `vaddr` are alike within a page and the file range fits the kernel's signed
//! offsets.

use goblin::elf64::program_header::{PF_R, PF_W, PF_X};

use super::error::Error;
use super::header::ProgramHeader;
use crate::addr::{self, PAGE};

/// The end of the address space of a program with 47-bit addresses (`TASK_SIZE`,
/// arch/x86/include/asm/page_64_types.h).
pub(crate) const TASK_SIZE: u64 = 0x7fff_ffff_f000;

/// One `PT_LOAD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its link-time address.
    pub vaddr: u64,
    /// Where its bytes start in the file; alike to `vaddr` within a page if `file_size` is not zero.
    pub offset: u64,
    /// How many bytes come from the file.
    pub file_size: u64,
    /// How many bytes it takes in memory; at least `file_size`, the rest is zero.
    pub mem_size: u64,
    /// Whether it may be read.
    pub readable: bool,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether it may be executed.
    pub executable: bool,
    /// Its `p_align` in bytes; any number may stand there.
    pub align: u64,
}

impl Segment {
    /// The first link-time address past its end.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.vaddr.saturating_add(self.mem_size)
    }

    /// Whether the byte at a link-time address comes from the file.
    pub(super) fn holds(&self, vaddr: u64) -> bool {
        vaddr >= self.vaddr && vaddr - self.vaddr < self.file_size
    }

    pub(super) fn check(index: u16, entry: &ProgramHeader) -> Result<Self, Error> {
        let ProgramHeader { flags, offset, vaddr, file_size, mem_size, align, .. } = *entry;
        // elf_map leaves segments without file bytes alone, whatever their offset says.
        if file_size != 0 && offset % PAGE != vaddr % PAGE {
            return Err(Error::SegmentMisaligned { index, offset, vaddr });
        }
        if file_size > mem_size {
            return Err(Error::SegmentShrinks { index, file_size, mem_size });
        }
        if vaddr >= TASK_SIZE || mem_size > TASK_SIZE - vaddr {
            return Err(Error::SegmentOutside { index, vaddr, mem_size });
        }
        // Offsets are signed in the kernel (loff_t).
        let file_end = offset.checked_add(file_size).and_then(addr::page_ceil);
        if file_size != 0 && file_end.is_none_or(|end| end > i64::MAX.cast_unsigned()) {
            return Err(Error::SegmentOffset { index, offset });
        }
        Ok(Self {
            vaddr,
            offset,
            file_size,
            mem_size,
            readable: flags & PF_R != 0,
            writable: flags & PF_W != 0,
            executable: flags & PF_X != 0,
            align,
        })
    }
}
