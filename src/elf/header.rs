//! The three records of an ELF file, read field by field.
//!
//! Layouts come from goblin's types, never its parsers: those trust counts and allocate. A field past the
//! end of its record reads as zero, because the kernel reads the file header from a zero-filled buffer
//! (`bprm->buf`), so a file of 57 bytes can be a valid program.

use core::mem::offset_of;
use core::mem::size_of;

use goblin::elf64::header::Header as RawFileHeader;
use goblin::elf64::program_header::ProgramHeader as RawProgramHeader;
use goblin::elf64::section_header::SectionHeader as RawSectionHeader;

/// The size of a file header in bytes.
pub(super) const FILE_HEADER_LEN: usize = size_of::<RawFileHeader>();
/// The size of a program header in bytes, and the only one the kernel takes.
pub(super) const PROGRAM_HEADER_LEN: usize = size_of::<RawProgramHeader>();
/// The size of a section header in bytes.
pub(super) const SECTION_HEADER_LEN: usize = size_of::<RawSectionHeader>();

/// The bytes from `offset` on, `len` of them, if the file holds them all.
pub(super) fn slice(file: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(len)?).ok()?;
    file.get(start..end)
}

fn field<const N: usize>(record: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    for (to, from) in value.iter_mut().zip(record.get(at..).unwrap_or_default()) {
        *to = *from;
    }
    value
}

fn u16_at(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(record, at))
}

fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(record, at))
}

fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(record, at))
}

/// The file header: `Elf64_Ehdr`.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileHeader {
    pub(super) ident: [u8; 16],
    pub(super) file_type: u16,
    pub(super) machine: u16,
    pub(super) entry: u64,
    pub(super) program_headers_offset: u64,
    pub(super) program_header_len: u16,
    pub(super) program_header_count: u16,
    pub(super) sections_offset: u64,
    pub(super) section_header_len: u16,
    pub(super) section_count: u16,
    pub(super) section_names_index: u16,
}

impl FileHeader {
    /// Reads the header at the start of `file`.
    pub(super) fn read(file: &[u8]) -> Self {
        Self {
            ident: field(file, offset_of!(RawFileHeader, e_ident)),
            file_type: u16_at(file, offset_of!(RawFileHeader, e_type)),
            machine: u16_at(file, offset_of!(RawFileHeader, e_machine)),
            entry: u64_at(file, offset_of!(RawFileHeader, e_entry)),
            program_headers_offset: u64_at(file, offset_of!(RawFileHeader, e_phoff)),
            program_header_len: u16_at(file, offset_of!(RawFileHeader, e_phentsize)),
            program_header_count: u16_at(file, offset_of!(RawFileHeader, e_phnum)),
            sections_offset: u64_at(file, offset_of!(RawFileHeader, e_shoff)),
            section_header_len: u16_at(file, offset_of!(RawFileHeader, e_shentsize)),
            section_count: u16_at(file, offset_of!(RawFileHeader, e_shnum)),
            section_names_index: u16_at(file, offset_of!(RawFileHeader, e_shstrndx)),
        }
    }
}

/// One entry of the program header table: `Elf64_Phdr`, as the file says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgramHeader {
    /// `p_type`: a `PT_` number.
    pub kind: u32,
    /// `p_flags`: a set of `PF_R`, `PF_W`, `PF_X`.
    pub flags: u32,
    /// `p_offset`: where its bytes start in the file.
    pub offset: u64,
    /// `p_vaddr`: its link-time address.
    pub vaddr: u64,
    /// `p_filesz`: how many bytes the file holds.
    pub file_size: u64,
    /// `p_memsz`: how many bytes it takes in memory.
    pub mem_size: u64,
    /// `p_align`: its alignment in bytes; any number may stand here.
    pub align: u64,
}

impl ProgramHeader {
    pub(super) fn read(record: &[u8]) -> Self {
        Self {
            kind: u32_at(record, offset_of!(RawProgramHeader, p_type)),
            flags: u32_at(record, offset_of!(RawProgramHeader, p_flags)),
            offset: u64_at(record, offset_of!(RawProgramHeader, p_offset)),
            vaddr: u64_at(record, offset_of!(RawProgramHeader, p_vaddr)),
            file_size: u64_at(record, offset_of!(RawProgramHeader, p_filesz)),
            mem_size: u64_at(record, offset_of!(RawProgramHeader, p_memsz)),
            align: u64_at(record, offset_of!(RawProgramHeader, p_align)),
        }
    }
}

/// One entry of the section header table: `Elf64_Shdr`.
#[derive(Clone, Copy, Debug)]
pub(super) struct SectionHeader {
    pub(super) name: u32,
    pub(super) kind: u32,
    pub(super) flags: u64,
    pub(super) vaddr: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) link: u32,
}

impl SectionHeader {
    pub(super) fn read(record: &[u8]) -> Self {
        Self {
            name: u32_at(record, offset_of!(RawSectionHeader, sh_name)),
            kind: u32_at(record, offset_of!(RawSectionHeader, sh_type)),
            flags: u64_at(record, offset_of!(RawSectionHeader, sh_flags)),
            vaddr: u64_at(record, offset_of!(RawSectionHeader, sh_addr)),
            offset: u64_at(record, offset_of!(RawSectionHeader, sh_offset)),
            size: u64_at(record, offset_of!(RawSectionHeader, sh_size)),
            link: u32_at(record, offset_of!(RawSectionHeader, sh_link)),
        }
    }
}
