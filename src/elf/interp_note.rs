//! What `loader set-interp` records in a program, so that the kernel starts it under the loader.
//!
//! The kernel reads the path in `PT_INTERP` by its file offset and size only (fs/binfmt_elf.c, `load_elf_binary`); the
//! dynamic loaders of glibc and musl read it at its address. So the offset and the size change, to a path behind the
//! end of the file, and the address does not: to its dynamic loader and to itself the program looks as before. Behind
//! the path stands the record: what was replaced, the program's own interpreter, and options.
//!
//! Both are sections, since tools that write a file anew (strip, objcopy) drop what no section holds. They have
//! no address, and `.interp` is the new path, for gdb looks at the section for what the kernel starts first. Nothing else
//! moves: [`restore`] puts the replaced headers back and cuts the rest off.

use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt;
use core::mem::offset_of;

use goblin::elf64::header::Header as RawFileHeader;
use goblin::elf64::program_header::{PT_INTERP, ProgramHeader as RawProgramHeader};
use goblin::elf64::section_header::{SHN_LORESERVE, SHT_PROGBITS, SectionHeader as RawSectionHeader};

use crate::elf::error::{Error, Role};
use crate::elf::header::{
    FILE_HEADER_LEN, FileHeader, PROGRAM_HEADER_LEN, SECTION_HEADER_LEN, SectionHeader,
};
use crate::elf::image::{Image, PATH_MAX, ProgramHeader};
use crate::elf::section;

/// What a record starts with.
const MAGIC: [u8; 8] = *b"\x7fLOADER1";
/// The bytes of a record before its strings: magic, its length, the file's length, two headers.
const FIXED_LEN: usize = MAGIC.len() + 16 + FILE_HEADER_LEN + PROGRAM_HEADER_LEN;
/// The longest options together, their zero bytes included.
const OPTIONS_MAX: usize = 4096;

/// Why a file's interpreter can't be set, read or restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// It is no program that can be run.
    Image(Error),
    /// It has no interpreter that could be replaced.
    Static,
    /// It has been done.
    AlreadySet,
    /// It has not been done.
    NotSet,
    /// Another tool has changed the file since.
    Changed,
    /// The loader's path is not absolute, or longer than the kernel takes.
    LoaderPath,
    /// The options are longer than a record takes.
    OptionsLen,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => write!(f, "{}: {error}", error.errno(Role::Program)),
            Self::Static => {
                f.write_str("has no interpreter: a static program can only be run by `loader PROGRAM`")
            }
            Self::AlreadySet => f.write_str("runs under a loader already"),
            Self::NotSet => f.write_str("has no record of a loader"),
            Self::Changed => f.write_str("was changed by another tool since the loader was set"),
            Self::LoaderPath => f.write_str("the loader's path must be absolute and shorter than 4096 bytes"),
            Self::OptionsLen => f.write_str("the options are longer than 4096 bytes"),
        }
    }
}

/// What a program's file says about how it runs under the loader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record<'f> {
    /// The path of the loader.
    pub loader: &'f CStr,
    /// The path of the interpreter that the program had.
    pub interpreter: &'f CStr,
    /// Options, each with its zero byte.
    options: &'f [u8],
    /// The length of the file before.
    file_len: u64,
    /// The two headers that were changed, as they were.
    headers: &'f [u8],
}

impl<'f> Record<'f> {
    /// The record of a program, if it has one.
    #[must_use]
    pub(crate) fn of(image: &Image<'f>) -> Option<Self> {
        let (_, entry) = interpreter_header(image)?;
        let at = entry.offset.checked_add(entry.file_size)?;
        let rest = image.file().get(usize::try_from(at).ok()?..)?;
        let (magic, rest) = rest.split_at_checked(MAGIC.len())?;
        let (len, rest) = rest.split_first_chunk::<8>()?;
        let rest = rest.get(..usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        let (file_len, rest) = rest.split_first_chunk::<8>()?;
        let (headers, strings) = rest.split_at_checked(FILE_HEADER_LEN + PROGRAM_HEADER_LEN)?;
        let interpreter = CStr::from_bytes_until_nul(strings).ok()?;
        let record = Self {
            loader: image.interpreter()?,
            interpreter,
            options: strings.get(interpreter.to_bytes_with_nul().len()..)?,
            file_len: u64::from_le_bytes(*file_len),
            headers,
        };
        (magic == MAGIC).then_some(record)
    }

    /// The options, in order.
    pub(crate) fn options(&self) -> impl Iterator<Item = &'f CStr> + use<'f> {
        let mut rest = self.options;
        core::iter::from_fn(move || {
            let word = CStr::from_bytes_until_nul(rest).ok()?;
            rest = rest.get(word.to_bytes_with_nul().len()..).unwrap_or_default();
            Some(word)
        })
    }
}

/// The first `PT_INTERP`, which is the one that counts, and its number.
fn interpreter_header(image: &Image<'_>) -> Option<(usize, ProgramHeader)> {
    image.program_headers().enumerate().find(|(_, entry)| entry.kind == PT_INTERP)
}

/// The program `file`, changed so that the kernel starts it under `loader` with these options.
///
/// # Errors
///
/// As [`Refusal`] lists.
pub(crate) fn set(file: &[u8], loader: &CStr, options: &[&CStr]) -> Result<Vec<u8>, Refusal> {
    let image = Image::parse(file).map_err(Refusal::Image)?;
    let (index, entry) = interpreter_header(&image).ok_or(Refusal::Static)?;
    let interpreter = image.interpreter().ok_or(Refusal::Static)?;
    if Record::of(&image).is_some() {
        return Err(Refusal::AlreadySet);
    }
    let path = loader.to_bytes_with_nul();
    if path.first() != Some(&b'/') || path.len() as u64 > PATH_MAX {
        return Err(Refusal::LoaderPath);
    }
    let options: Vec<u8> = options.iter().flat_map(|word| word.to_bytes_with_nul()).copied().collect();
    if options.len() > OPTIONS_MAX {
        return Err(Refusal::OptionsLen);
    }
    let header = FileHeader::read(file);
    let header_at = header_offset(&header, index).ok_or(Refusal::NotSet)?;
    let strings = [interpreter.to_bytes_with_nul(), &options].concat();
    let mut record = Vec::with_capacity(FIXED_LEN + strings.len());
    record.extend(MAGIC);
    record.extend(((FIXED_LEN - MAGIC.len() - 8 + strings.len()) as u64).to_le_bytes());
    record.extend((file.len() as u64).to_le_bytes());
    record.extend(file.get(..FILE_HEADER_LEN).ok_or(Refusal::Static)?);
    record.extend(file.get(header_at..header_at + PROGRAM_HEADER_LEN).ok_or(Refusal::Static)?);
    record.extend(strings);

    let sections = Sections::of(file, &header);
    let room = path.len() + record.len() + sections.as_ref().map_or(0, Sections::room);
    let mut new = Vec::with_capacity(file.len() + room);
    new.extend_from_slice(file);
    new.extend_from_slice(path);
    new.extend_from_slice(&record);
    let at = |field| header_at + field;
    put(&mut new, at(offset_of!(RawProgramHeader, p_offset)), &(file.len() as u64).to_le_bytes());
    put(&mut new, at(offset_of!(RawProgramHeader, p_filesz)), &(path.len() as u64).to_le_bytes());
    if entry.mem_size != 0 {
        put(&mut new, at(offset_of!(RawProgramHeader, p_memsz)), &(path.len() as u64).to_le_bytes());
    }
    if let Some(sections) = sections {
        sections.append(&mut new, file.len(), path.len(), record.len());
    }
    Ok(new)
}

/// The program as it was before [`set`], byte for byte.
///
/// # Errors
///
/// [`Refusal::NotSet`], and [`Refusal::Changed`] where its bytes can't be had back.
pub(crate) fn restore(file: &[u8]) -> Result<Vec<u8>, Refusal> {
    let image = Image::parse(file).map_err(Refusal::Image)?;
    let record = Record::of(&image).ok_or(Refusal::NotSet)?;
    let old =
        usize::try_from(record.file_len).ok().and_then(|len| file.get(..len)).ok_or(Refusal::Changed)?;
    let mut old = old.to_vec();
    let (file_header, program_header) = record.headers.split_at(FILE_HEADER_LEN);
    let index = interpreter_header(&image).map_or(0, |(index, _)| index);
    let header_at = header_offset(&FileHeader::read(file_header), index).ok_or(Refusal::Changed)?;
    put(&mut old, 0, file_header);
    put(&mut old, header_at, program_header);
    let options: Vec<&CStr> = record.options().collect();
    // The only proof that nothing else has changed.
    match set(&old, record.loader, &options) {
        Ok(again) if again == file => Ok(old),
        _ => Err(Refusal::Changed),
    }
}

/// Where program header `index` stands in the file.
fn header_offset(header: &FileHeader, index: usize) -> Option<usize> {
    usize::try_from(header.program_headers_offset).ok()?.checked_add(index.checked_mul(PROGRAM_HEADER_LEN)?)
}

/// Writes `bytes` at `at`, if they lie inside.
fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = at.checked_add(bytes.len()).and_then(|end| file.get_mut(at..end)) {
        place.copy_from_slice(bytes);
    }
}

/// The section header table of a file and the names in it.
struct Sections<'f> {
    table: &'f [u8],
    names: &'f [u8],
    names_index: u16,
}

impl<'f> Sections<'f> {
    /// `None` where there are none, or so many that the file header can't count them.
    fn of(file: &'f [u8], header: &FileHeader) -> Option<Self> {
        let (table, names) = section::table_and_names(file, header)?;
        let is_counted = |number: u16| (1..SHN_LORESERVE as u16 - 2).contains(&number);
        (is_counted(header.section_count) && is_counted(header.section_names_index)).then_some(Self {
            table,
            names,
            names_index: header.section_names_index,
        })
    }

    /// Names that are added: of the new path, of the record, of the section that held the old path.
    const NAMES: &'static [u8] = b".interp\0.loader\0.interp.real\0";

    /// An upper bound of what [`Self::append`] adds.
    const fn room(&self) -> usize {
        self.names.len() + 1 + Self::NAMES.len() + 8 + self.table.len() + 2 * SECTION_HEADER_LEN
    }

    /// Appends a table that has two sections more: a path of `path_len` bytes at `at`, and the record behind it.
    fn append(&self, file: &mut Vec<u8>, at: usize, path_len: usize, record_len: usize) {
        let names_at = file.len();
        file.extend_from_slice(self.names);
        if self.names.last().is_some_and(|&last| last != 0) {
            file.push(0);
        }
        let first_name = (file.len() - names_at) as u32;
        file.extend_from_slice(Self::NAMES);
        let names_len = file.len() - names_at;
        file.resize(file.len().next_multiple_of(8), 0);

        let table_at = file.len();
        file.extend_from_slice(self.table);
        file.extend(data_section(first_name, at, path_len));
        file.extend(data_section(first_name + 8, at + path_len, record_len));
        let field = |index: usize, field: usize| table_at + index * SECTION_HEADER_LEN + field;
        for (index, record) in self.table.chunks_exact(SECTION_HEADER_LEN).enumerate() {
            if section::name_at(self.names, SectionHeader::read(record).name) == b".interp" {
                put(
                    file,
                    field(index, offset_of!(RawSectionHeader, sh_name)),
                    &(first_name + 16).to_le_bytes(),
                );
            }
        }
        let names = usize::from(self.names_index);
        for (at, value) in [
            (field(names, offset_of!(RawSectionHeader, sh_offset)), names_at),
            (field(names, offset_of!(RawSectionHeader, sh_size)), names_len),
            (offset_of!(RawFileHeader, e_shoff), table_at),
        ] {
            put(file, at, &(value as u64).to_le_bytes());
        }
        let count = (self.table.len() / SECTION_HEADER_LEN + 2) as u16;
        put(file, offset_of!(RawFileHeader, e_shnum), &count.to_le_bytes());
    }
}

/// The header of a section that is not loaded.
fn data_section(name: u32, offset: usize, len: usize) -> [u8; SECTION_HEADER_LEN] {
    let mut header = [0; SECTION_HEADER_LEN];
    put(&mut header, offset_of!(RawSectionHeader, sh_name), &name.to_le_bytes());
    put(&mut header, offset_of!(RawSectionHeader, sh_type), &SHT_PROGBITS.to_le_bytes());
    put(&mut header, offset_of!(RawSectionHeader, sh_offset), &(offset as u64).to_le_bytes());
    put(&mut header, offset_of!(RawSectionHeader, sh_size), &(len as u64).to_le_bytes());
    put(&mut header, offset_of!(RawSectionHeader, sh_addralign), &1_u64.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::sample::Sample;
    use proptest::prelude::*;

    fn dynamic() -> Vec<u8> {
        Sample::altered(|sample| sample.name_interpreter(0x900, 9, b"/lib/old\0"))
    }

    fn record(file: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let image = Image::parse(file).unwrap();
        let record = Record::of(&image).unwrap();
        (
            record.interpreter.to_bytes().to_vec(),
            record.options().map(|word| word.to_bytes().to_vec()).collect(),
        )
    }

    #[test]
    fn the_kernel_finds_the_loader_and_the_loader_the_interpreter() {
        let file = set(&dynamic(), c"/a/loader", &[c"-c", c"--output=x y"]).unwrap();
        let image = Image::parse(&file).unwrap();
        assert_eq!(image.interpreter(), Some(c"/a/loader"));
        assert_eq!(
            record(&file),
            (b"/lib/old".to_vec(), std::vec![b"-c".to_vec(), b"--output=x y".to_vec()])
        );
        assert_eq!(set(&file, c"/b", &[]), Err(Refusal::AlreadySet));
        assert_eq!(restore(&file).unwrap(), dynamic());
    }

    #[test]
    fn the_running_program_comes_back_and_keeps_its_sections() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let changed = set(&file, c"/loader", &[]).unwrap();
        let image = Image::parse(&changed).unwrap();
        assert_eq!(image.section(".interp").unwrap().bytes, b"/loader\0");
        assert_eq!(image.section(".interp.real").unwrap().bytes, b"/lib64/ld-linux-x86-64.so.2\0");
        assert!(image.section(".loader").unwrap().bytes.starts_with(&MAGIC));
        let before = Image::parse(&file).unwrap();
        assert_eq!(image.sections().count(), before.sections().count() + 2);
        assert_eq!(image.section(".text"), before.section(".text"));
        assert_eq!(restore(&changed).unwrap(), file);
    }

    #[test]
    fn says_why_not() {
        let message =
            |result: Result<Vec<u8>, Refusal>| std::string::ToString::to_string(&result.unwrap_err());
        let fixed = Sample::altered(|_| ());
        assert!(message(set(&fixed, c"/l", &[])).starts_with("has no interpreter"));
        assert!(matches!(set(b"#!/bin/sh", c"/l", &[]), Err(Refusal::Image(Error::NotElf))));
        for loader in [c"loader", c""] {
            assert_eq!(set(&dynamic(), loader, &[]), Err(Refusal::LoaderPath));
        }
        let long = alloc::ffi::CString::new(std::vec![b'x'; OPTIONS_MAX]).unwrap();
        assert_eq!(set(&dynamic(), c"/l", &[&long]), Err(Refusal::OptionsLen));
        assert_eq!(restore(&dynamic()), Err(Refusal::NotSet));
        let mut changed = set(&dynamic(), c"/l", &[]).unwrap();
        changed[0xa00] ^= 1;
        assert!(restore(&changed).is_ok_and(|old| old != dynamic()), "the program's own bytes are its own");
        changed.push(0);
        assert_eq!(restore(&changed), Err(Refusal::Changed));
    }

    proptest! {
        #[test]
        fn what_is_set_is_read_and_restored(
            loader in "/[a-z/]{1,300}",
            options in prop::collection::vec("-[a-z=/]{0,40}", 0..8),
        ) {
            let string = |text: &std::string::String| alloc::ffi::CString::new(text.as_bytes()).unwrap();
            let (loader, words) = (string(&loader), options.iter().map(string).collect::<Vec<_>>());
            let words: Vec<&CStr> = words.iter().map(|word| word.as_c_str()).collect();
            let file = set(&dynamic(), &loader, &words).unwrap();
            let image = Image::parse(&file).unwrap();
            let read = Record::of(&image).unwrap();
            prop_assert_eq!(read.loader, loader.as_c_str());
            prop_assert_eq!(read.options().collect::<Vec<_>>(), words);
            prop_assert_eq!(restore(&file).unwrap(), dynamic());
        }

        #[test]
        fn a_damaged_file_is_read_or_refused(
            damage in prop::collection::vec((0..0x1200_usize, any::<u8>()), 0..12), cut in 0..0x1200_usize,
        ) {
            let mut file = set(&dynamic(), c"/loader", &[c"-c"]).unwrap();
            for (at, byte) in damage {
                put(&mut file, at, &[byte]);
            }
            file.truncate(cut.max(file.len() / 2));
            let _ = set(&file, c"/loader", &[]);
            let _ = restore(&file);
            if let Ok(image) = Image::parse(&file) {
                let _ = Record::of(&image).map(|record| record.options().count());
            }
        }

        #[test]
        fn any_bytes_are_refused_or_restored(file in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(set(&file, c"/loader", &[]).map_or(true, |new| restore(&new) == Ok(file)));
        }
    }
}
