//! An ELF file that `execve` would load, as a borrowed view of its bytes.
//!
//! Parsing makes every check of `load_elf_binary` and `load_elf_interp` (fs/binfmt_elf.c) that depends on
//! the file alone, and no other: `EI_CLASS`, `EI_DATA` and the versions are not looked at, segments may
//! overlap (the later one is mapped over the earlier) and stand in any order, and the file may end before
//! its segments do (a touch of the missing pages raises SIGBUS, as natively). One thing is stricter: a
//! dynamic loader linked above the address space is refused, where the kernel would let its addresses wrap
//! around.

use alloc::vec::Vec;
use core::ffi::CStr;

use goblin::elf64::header::{EI_CLASS, EI_DATA, ELFCLASS32, ELFDATA2MSB, ELFMAG, EM_X86_64, ET_DYN, ET_EXEC};
use goblin::elf64::program_header::{PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD};

use super::error::Error;
use super::header::{self, FileHeader};
use super::section;
use crate::addr::{self, PAGE};

pub(crate) use super::header::ProgramHeader;
pub(crate) use super::section::Section;
pub(crate) use super::segment::{Segment, TASK_SIZE};

/// The size of the largest program header table (`load_elf_phdrs`).
const PROGRAM_HEADERS_MAX: u64 = 65536;
/// The length of the longest path, its zero byte included (include/uapi/linux/limits.h).
pub(super) const PATH_MAX: u64 = 4096;

/// Whether a file says where it is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `ET_EXEC`: at its link-time addresses and nowhere else.
    Fixed,
    /// `ET_DYN`: at any distance from them.
    Relocatable,
}

/// What a file's `PT_GNU_STACK` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StackProtection {
    /// There is none; on x86-64 the stack is then not executable (`elf_read_implies_exec`).
    Unstated,
    /// A stack that is not executable.
    NonExecutable,
    /// An executable stack.
    Executable,
}

/// A file that can be loaded.
#[derive(Clone, Debug)]
pub struct Image<'f> {
    file: &'f [u8],
    header: FileHeader,
    table: &'f [u8],
    kind: Kind,
    segments: Vec<Segment>,
    interpreter: Option<&'f CStr>,
}

impl<'f> Image<'f> {
    /// Reads a program, or fails with the first fault that the kernel would find.
    ///
    /// # Errors
    /// What [`Error`] lists, with [`Role::Program`].
    pub fn parse(file: &'f [u8]) -> Result<Self, Error> {
        let mut image = Self::parse_headers(file)?;
        image.interpreter = image.find_interpreter()?;
        image.segments = image.check_segments()?;
        match image.interpreter {
            Some(_) => Ok(image),
            None => image.check_entry(),
        }
    }

    /// Reads a dynamic loader. Its own `PT_INTERP` is not looked at, as in the kernel.
    ///
    /// # Errors
    /// What [`Error`] lists, with [`Role::Interpreter`].
    pub fn parse_interpreter(file: &'f [u8]) -> Result<Self, Error> {
        if file.len() < header::FILE_HEADER_LEN {
            return Err(Error::Short { len: file.len() as u64 });
        }
        let mut image = Self::parse_headers(file)?;
        image.segments = image.check_segments()?;
        image.check_entry()
    }

    /// Makes the checks of [`Self::parse`] and keeps nothing: the path of the dynamic loader, if there is one.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn check(file: &'f [u8]) -> Result<Option<&'f CStr>, Error> {
        let image = Self::parse_headers(file)?;
        let interpreter = image.find_interpreter()?;
        image.count_segments()?;
        match interpreter {
            Some(path) => Ok(Some(path)),
            None => image.check_entry().map(|_| None),
        }
    }

    /// Makes the checks of [`Self::parse_interpreter`] and keeps nothing.
    ///
    /// # Errors
    /// As [`Self::parse_interpreter`].
    pub fn check_interpreter(file: &'f [u8]) -> Result<(), Error> {
        if file.len() < header::FILE_HEADER_LEN {
            return Err(Error::Short { len: file.len() as u64 });
        }
        let image = Self::parse_headers(file)?;
        image.count_segments()?;
        image.check_entry().map(drop)
    }

    /// Whether it may be loaded anywhere.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The link-time address of the entry point; any number may stand there.
    #[must_use]
    pub const fn entry(&self) -> u64 {
        self.header.entry
    }

    /// Its `PT_LOAD`s in file order, which is the order of mapping: a later one replaces what it overlaps.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The path of the dynamic loader of a program; never empty.
    #[must_use]
    pub const fn interpreter(&self) -> Option<&'f CStr> {
        self.interpreter
    }

    /// The page-aligned link-time addresses that hold all segments: the first, and the first past the end
    /// (`total_mapping_size`).
    #[must_use]
    pub fn span(&self) -> (u64, u64) {
        let start = self.segments.iter().map(|segment| addr::page_floor(segment.vaddr)).min();
        let end = self.segments.iter().map(Segment::end).max();
        // The invariant keeps every end at or below TASK_SIZE, which is a multiple of the page size.
        (start.unwrap_or(0), end.and_then(addr::page_ceil).unwrap_or(0))
    }

    /// The alignment in bytes that its load address must have: a power of two, at least a page
    /// (`maximum_alignment`).
    #[must_use]
    pub fn align(&self) -> u64 {
        let stated = self.segments.iter().map(|segment| segment.align);
        stated.filter(|align| align.is_power_of_two()).max().unwrap_or(PAGE).max(PAGE)
    }

    /// The link-time address of the program header table, if a segment holds it; `None` where the kernel's
    /// `AT_PHDR` points to nothing.
    ///
    /// The kernel looks for the last `PT_LOAD` whose file bytes hold `e_phoff`, and not at `PT_PHDR`.
    #[must_use]
    pub fn program_headers_vaddr(&self) -> Option<u64> {
        let offset = self.header.program_headers_offset;
        let holder = self
            .segments
            .iter()
            .rev()
            .find(|segment| segment.offset <= offset && offset - segment.offset < segment.file_size)?;
        holder.vaddr.checked_add(offset - holder.offset)
    }

    /// How many program headers there are: at least one.
    #[must_use]
    pub const fn program_header_count(&self) -> u16 {
        self.header.program_header_count
    }

    /// The program header table, as the file holds it.
    #[must_use]
    pub const fn program_header_table(&self) -> &'f [u8] {
        self.table
    }

    /// The program headers of all types, in file order.
    pub fn program_headers(&self) -> impl Iterator<Item = ProgramHeader> + use<'f> {
        self.table.chunks_exact(header::PROGRAM_HEADER_LEN).map(ProgramHeader::read)
    }

    /// What its `PT_GNU_STACK` asks for; the last one counts.
    #[must_use]
    pub fn stack(&self) -> StackProtection {
        match self.program_headers().filter(|entry| entry.kind == PT_GNU_STACK).last() {
            None => StackProtection::Unstated,
            Some(entry) if entry.flags & PF_X != 0 => StackProtection::Executable,
            Some(_) => StackProtection::NonExecutable,
        }
    }

    /// All bytes of the file.
    #[must_use]
    pub const fn file(&self) -> &'f [u8] {
        self.file
    }

    /// The file's bytes behind `len` link-time addresses, if one segment maps them all from the file.
    #[must_use]
    pub fn bytes_at(&self, vaddr: u64, len: u64) -> Option<&'f [u8]> {
        // The later of two overlapping segments is mapped over the earlier.
        let holder = self.segments.iter().rev().find(|segment| segment.holds(vaddr))?;
        let skipped = vaddr - holder.vaddr;
        if len > holder.file_size - skipped {
            return None;
        }
        header::slice(self.file, holder.offset.checked_add(skipped)?, len)
    }

    /// The sections; none if the file is stripped of them or its section header table is damaged.
    pub fn sections(&self) -> impl Iterator<Item = Section<'f>> + use<'f> {
        section::sections(self.file, &self.header)
    }

    /// The first section of that name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<Section<'f>> {
        self.sections().find(|section| section.name == name.as_bytes())
    }

    fn parse_headers(file: &'f [u8]) -> Result<Self, Error> {
        let header = FileHeader::read(file);
        check_machine(&header)?;
        let table = program_header_table(file, &header)?;
        // Last, because the kernel looks late at the type of a dynamic loader, and makes no difference for a
        // program.
        let kind = match header.file_type {
            ET_EXEC => Kind::Fixed,
            ET_DYN => Kind::Relocatable,
            other => return Err(Error::Type(other)),
        };
        Ok(Self { file, header, table, kind, segments: Vec::new(), interpreter: None })
    }

    fn find_interpreter(&self) -> Result<Option<&'f CStr>, Error> {
        let Some(entry) = self.program_headers().find(|entry| entry.kind == PT_INTERP) else {
            return Ok(None);
        };
        let (offset, len) = (entry.offset, entry.file_size);
        if !(2..=PATH_MAX).contains(&len) {
            return Err(Error::InterpreterLen(len));
        }
        let path = header::slice(self.file, offset, len).ok_or(Error::InterpreterPastEnd { offset, len })?;
        if path.last() != Some(&0) {
            return Err(Error::InterpreterUnterminated);
        }
        let path = CStr::from_bytes_until_nul(path).map_err(|_| Error::InterpreterUnterminated)?;
        if path.is_empty() { Err(Error::InterpreterEmpty) } else { Ok(Some(path)) }
    }

    fn check_entry(self) -> Result<Self, Error> {
        let outside = self.kind == Kind::Fixed && self.entry() >= TASK_SIZE;
        if outside { Err(Error::EntryOutside(self.entry())) } else { Ok(self) }
    }

    fn check_segments(&self) -> Result<Vec<Segment>, Error> {
        let mut segments = Vec::with_capacity(self.count_segments()?);
        for segment in self.checked_segments() {
            segments.push(segment?);
        }
        Ok(segments)
    }

    /// How many segments there are: at least one, all of them sound.
    fn count_segments(&self) -> Result<usize, Error> {
        let mut count: usize = 0;
        for segment in self.checked_segments() {
            segment?;
            count = count.saturating_add(1);
        }
        if count == 0 { Err(Error::NoSegment) } else { Ok(count) }
    }

    fn checked_segments(&self) -> impl Iterator<Item = Result<Segment, Error>> {
        let numbered = (0..).zip(self.program_headers());
        let loaded = numbered.filter(|(_, entry)| entry.kind == PT_LOAD);
        loaded.map(|(index, entry)| Segment::check(index, &entry))
    }
}

/// Checks what the kernel checks, and asks `e_ident` only why it failed.
fn check_machine(header: &FileHeader) -> Result<(), Error> {
    let [class, data] = [EI_CLASS, EI_DATA].map(|at| header.ident.get(at).copied().unwrap_or(0));
    if !header.ident.starts_with(ELFMAG) {
        return Err(Error::NotElf);
    }
    if header.machine != EM_X86_64 {
        return Err(if data == ELFDATA2MSB { Error::ByteOrder } else { Error::Machine(header.machine) });
    }
    if usize::from(header.program_header_len) != header::PROGRAM_HEADER_LEN {
        let len = header.program_header_len;
        return Err(if class == ELFCLASS32 { Error::Class32 } else { Error::HeaderLen(len) });
    }
    Ok(())
}

fn program_header_table<'f>(file: &'f [u8], header: &FileHeader) -> Result<&'f [u8], Error> {
    let len = u64::from(header.program_header_count) * header::PROGRAM_HEADER_LEN as u64;
    if len == 0 || len > PROGRAM_HEADERS_MAX {
        return Err(Error::HeaderCount(header.program_header_count));
    }
    let offset = header.program_headers_offset;
    header::slice(file, offset, len).ok_or(Error::HeadersPastEnd { offset, len })
}

#[cfg(test)]
mod tests;
