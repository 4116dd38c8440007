//! A program's file as far as it can be told from the program in memory, for programs that may be run and not read.
//!
//! Each `PT_LOAD` says which bytes of the file lie where, and the headers are among them. The path in `PT_INTERP` may
//! not be: then the one at its address is taken, which is the program's own interpreter (see [`super::interp_note`]).

use alloc::vec::Vec;
use core::ffi::CStr;
use core::mem::offset_of;
use core::ops::Range;

use goblin::elf64::program_header::{PT_INTERP, PT_LOAD, PT_PHDR, ProgramHeader as RawProgramHeader};

use super::header::{FileHeader, PROGRAM_HEADER_LEN, ProgramHeader};
use crate::addr::GuestAddr;

/// The program headers of a program in memory.
#[derive(Clone, Debug)]
pub(crate) struct Mapped {
    headers: Vec<ProgramHeader>,
    bias: u64,
}

impl Mapped {
    /// Reads the table that lies at `at`; `None` unless it says where it is linked.
    #[must_use]
    pub(crate) fn of(table: &[u8], at: GuestAddr) -> Option<Self> {
        let headers: Vec<_> = table.chunks_exact(PROGRAM_HEADER_LEN).map(ProgramHeader::read).collect();
        let own = headers.iter().find(|entry| entry.kind == PT_PHDR)?;
        let bias = at.0.wrapping_sub(own.vaddr);
        Some(Self { headers, bias })
    }

    /// The size of a table of `count` headers in bytes.
    #[must_use]
    pub(crate) const fn table_len(count: u64) -> u64 {
        count.saturating_mul(PROGRAM_HEADER_LEN as u64)
    }

    /// Where the parts of the file that are mapped lie: run-time address and range in the file.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (GuestAddr, Range<usize>)> {
        let loaded = self.headers.iter().filter(|entry| entry.kind == PT_LOAD);
        loaded.filter_map(|entry| {
            let end = usize::try_from(entry.offset.checked_add(entry.file_size)?).ok()?;
            let start = usize::try_from(entry.offset).ok()?;
            Some((GuestAddr(entry.vaddr.wrapping_add(self.bias)), start..end))
        })
    }

    /// How far the parts reach in the file, in bytes.
    #[must_use]
    pub(crate) fn file_len(&self) -> usize {
        self.parts().map(|(_, range)| range.end).max().unwrap_or(0)
    }

    /// Makes `PT_INTERP` of a file put together from the parts lead to the path at its address.
    pub(crate) fn mend(&self, file: &mut [u8]) -> Option<()> {
        let index = self.headers.iter().position(|entry| entry.kind == PT_INTERP)?;
        let vaddr = self.headers.get(index)?.vaddr;
        let at = self.headers.iter().filter(|entry| entry.kind == PT_LOAD).find_map(|entry| {
            let skipped = vaddr.checked_sub(entry.vaddr).filter(|&skipped| skipped < entry.file_size)?;
            entry.offset.checked_add(skipped)
        })?;
        let path = file.get(usize::try_from(at).ok()?..)?;
        let len = CStr::from_bytes_until_nul(path).ok()?.to_bytes_with_nul().len() as u64;
        let table = usize::try_from(FileHeader::read(file).program_headers_offset).ok()?;
        let header = table.checked_add(index.checked_mul(PROGRAM_HEADER_LEN)?)?;
        let header = file.get_mut(header..header.checked_add(PROGRAM_HEADER_LEN)?)?;
        header
            .get_mut(offset_of!(RawProgramHeader, p_offset)..)?
            .first_chunk_mut()
            .map(|field| *field = at.to_le_bytes())?;
        header
            .get_mut(offset_of!(RawProgramHeader, p_filesz)..)?
            .first_chunk_mut()
            .map(|field| *field = len.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::image::Image;
    use crate::elf::interp_note;
    use proptest::prelude::*;

    /// Puts the file together from `file`, as if its parts were mapped without a bias.
    fn remade(file: &[u8]) -> Option<Vec<u8>> {
        let header = FileHeader::read(file);
        let start = usize::try_from(header.program_headers_offset).ok()?;
        let len = Mapped::table_len(header.program_header_count.into()) as usize;
        let table = file.get(start..start.checked_add(len)?)?;
        let own = table
            .chunks_exact(PROGRAM_HEADER_LEN)
            .map(ProgramHeader::read)
            .find(|entry| entry.kind == PT_PHDR)?;
        let mapped = Mapped::of(table, GuestAddr(own.vaddr))?;
        let mut made = std::vec![0; mapped.file_len().min(file.len())];
        for (_, range) in mapped.parts() {
            if let (Some(to), Some(from)) = (made.get_mut(range.clone()), file.get(range)) {
                to.copy_from_slice(from);
            }
        }
        mapped.mend(&mut made)?;
        Some(made)
    }

    #[test]
    fn the_running_program_is_read_without_its_file() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let changed = interp_note::set(&file, c"/a/loader", &[]).unwrap();
        for file in [&file, &changed] {
            let made = remade(file).unwrap();
            let image = Image::parse(&made).unwrap();
            assert_eq!(image.interpreter(), Some(c"/lib64/ld-linux-x86-64.so.2"));
            assert_eq!(image.segments(), Image::parse(file).unwrap().segments());
        }
    }

    proptest! {
        #[test]
        fn any_table_is_read_or_refused(table in prop::collection::vec(any::<u8>(), 0..300), at: u64) {
            if let Some(mapped) = Mapped::of(&table, GuestAddr(at)) {
                let mut file = table.clone();
                let _ = (mapped.file_len(), mapped.mend(&mut file));
            }
        }
    }
}
