//! The sections of a file, for those who look for a table that no program header names.
//!
//! Nothing that runs a program needs sections, strip tools remove them and packers leave garbage: so a
//! damaged table reads as none and damaged entries as empty, and nothing here fails.

use core::ffi::CStr;

use goblin::elf64::section_header::{SHN_XINDEX, SHT_NOBITS, SHT_NULL};

use super::header::{self, FileHeader, SectionHeader};

/// One section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section<'f> {
    /// Its name; empty if the file gives none.
    pub name: &'f [u8],
    /// `sh_type`: an `SHT_` number.
    pub kind: u32,
    /// `sh_flags`: a set of `SHF_` bits.
    pub flags: u64,
    /// Its link-time address; zero if it is not loaded.
    pub vaddr: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its bytes; empty for `SHT_NOBITS` and where they reach past the end of the file.
    pub bytes: &'f [u8],
}

/// The sections that `file` names, null ones left out.
pub(super) fn sections<'f>(
    file: &'f [u8],
    header: &FileHeader,
) -> impl Iterator<Item = Section<'f>> + use<'f> {
    let (table, names) = table_and_names(file, header).unwrap_or_default();
    let headers = table.chunks_exact(header::SECTION_HEADER_LEN).map(SectionHeader::read);
    headers.filter(|header| header.kind != SHT_NULL).map(move |header| Section {
        name: name_at(names, header.name),
        kind: header.kind,
        flags: header.flags,
        vaddr: header.vaddr,
        size: header.size,
        bytes: section_bytes(file, &header),
    })
}

pub(super) fn table_and_names<'f>(file: &'f [u8], file_header: &FileHeader) -> Option<(&'f [u8], &'f [u8])> {
    let start = file_header.sections_offset;
    if start == 0 || usize::from(file_header.section_header_len) != header::SECTION_HEADER_LEN {
        return None;
    }
    let record_len = header::SECTION_HEADER_LEN as u64;
    let first = SectionHeader::read(header::slice(file, start, record_len)?);
    // Numbers that do not fit into the file header stand in the first section header (gABI, "ELF Header").
    let count = match file_header.section_count {
        0 => first.size,
        count => u64::from(count),
    };
    let names_index = match u32::from(file_header.section_names_index) {
        SHN_XINDEX => first.link,
        index => index,
    };
    let table = header::slice(file, start, count.checked_mul(record_len)?)?;
    let names = table.chunks_exact(header::SECTION_HEADER_LEN).nth(usize::try_from(names_index).ok()?);
    let names = names.map(|record| section_bytes(file, &SectionHeader::read(record)));
    Some((table, names.unwrap_or_default()))
}

fn section_bytes<'f>(file: &'f [u8], header: &SectionHeader) -> &'f [u8] {
    let bytes =
        if header.kind == SHT_NOBITS { None } else { header::slice(file, header.offset, header.size) };
    bytes.unwrap_or_default()
}

pub(super) fn name_at(names: &[u8], at: u32) -> &[u8] {
    let held = usize::try_from(at).ok().and_then(|at| names.get(at..)).unwrap_or_default();
    CStr::from_bytes_until_nul(held).map(CStr::to_bytes).unwrap_or_default()
}
