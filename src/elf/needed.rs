//! What a program leaves to its dynamic loader: which libraries it asks for, and by that, which loader is its; and, where
//! it asks for none, the relocations that are left.
//!
//! Read from the dynamic segment (gABI, "Dynamic Section") at link-time addresses; whatever is damaged ends the list.

use core::ffi::CStr;

use goblin::elf64::dynamic::{DT_NEEDED, DT_NULL, DT_RELA, DT_RELASZ, DT_STRTAB};
use goblin::elf64::program_header::PT_DYNAMIC;
use goblin::elf64::reloc::R_X86_64_RELATIVE;

use super::header;
use super::image::Image;

/// The dynamic loader of a program linked against glibc (psABI, "Program Interpreter").
pub(crate) const GLIBC: &CStr = c"/lib64/ld-linux-x86-64.so.2";
/// The dynamic loader of a program linked against musl (musl's INSTALL).
pub(crate) const MUSL: &CStr = c"/lib/ld-musl-x86_64.so.1";

/// The usual dynamic loader of a program, by the C library among what it needs; `None` if it needs nothing.
#[must_use]
pub(crate) fn usual_interpreter(image: &Image<'_>) -> Option<&'static CStr> {
    let is_musl = |name: &[u8]| name == b"libc.so" || name.starts_with(b"libc.musl-");
    let mut names = names(image).peekable();
    names.peek()?;
    Some(if names.any(is_musl) { MUSL } else { GLIBC })
}

/// The `R_X86_64_RELATIVE` relocations inside writable segments, as pairs of link-time address and addend. A program
/// that relocates itself may find them applied, since they do not depend on what was there (psABI 4.4.1).
pub(crate) fn relative_relocations(image: &Image<'_>) -> impl Iterator<Item = (u64, u64)> {
    let value = |wanted: u64| entries(image).find(|&(tag, _)| tag == wanted).map(|(_, value)| value);
    let table = value(DT_RELA).zip(value(DT_RELASZ)).and_then(|(at, len)| image.bytes_at(at, len));
    let (words, _) = table.unwrap_or_default().as_chunks::<8>();
    let (relocations, _) = words.as_chunks::<3>(); // Elf64_Rela { offset, info, addend }
    let relative = |&[offset, info, addend]: &[u64; 3]| {
        (info as u32 == R_X86_64_RELATIVE && is_writable(image, offset)).then_some((offset, addend))
    };
    relocations.iter().map(|words| words.map(u64::from_le_bytes)).filter_map(move |words| relative(&words))
}

/// Whether a word at a link-time address lies in a segment that may be written.
fn is_writable(image: &Image<'_>, vaddr: u64) -> bool {
    let word = vaddr..=vaddr.saturating_add(7);
    let mut holders = image.segments().iter().filter(|segment| segment.writable);
    holders.any(|segment| *word.start() >= segment.vaddr && *word.end() < segment.end())
}

/// The names in `DT_NEEDED`, in order.
fn names<'f>(image: &Image<'f>) -> impl Iterator<Item = &'f [u8]> {
    let strings = entries(image).find(|&(tag, _)| tag == DT_STRTAB).map(|(_, at)| at);
    let needed = entries(image).filter(|&(tag, _)| tag == DT_NEEDED);
    needed.map_while(move |(_, at)| string_at(image, strings?.checked_add(at)?))
}

/// The entries of the dynamic segment, as pairs of tag and value.
fn entries(image: &Image<'_>) -> impl Iterator<Item = (u64, u64)> {
    let segment = image.program_headers().find(|entry| entry.kind == PT_DYNAMIC);
    let bytes = segment.and_then(|entry| header::slice(image.file(), entry.offset, entry.file_size));
    let (words, _) = bytes.unwrap_or_default().as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().map(|pair| pair.map(u64::from_le_bytes).into()).take_while(|&(tag, _)| tag != DT_NULL)
}

fn string_at<'f>(image: &Image<'f>, vaddr: u64) -> Option<&'f [u8]> {
    let holder = image.segments().iter().rev().find(|segment| segment.holds(vaddr))?;
    let skipped = vaddr.checked_sub(holder.vaddr)?;
    let bytes = image.bytes_at(vaddr, holder.file_size.checked_sub(skipped)?)?;
    CStr::from_bytes_until_nul(bytes).ok().map(CStr::to_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_program_needs_glibc() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let image = Image::parse(&file).unwrap();
        assert!(names(&image).any(|name| name == b"libc.so.6"));
        assert_eq!(usual_interpreter(&image), Some(GLIBC));
    }

    #[test]
    fn the_running_program_leaves_relocations_in_its_data() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let image = Image::parse(&file).unwrap();
        let data = image.section(".data.rel.ro").unwrap();
        let inside = |&(at, _): &(u64, u64)| (data.vaddr..data.vaddr + data.size).contains(&at);
        assert!(relative_relocations(&image).filter(inside).count() > 100);
        let text = image.section(".text").unwrap();
        let to_code = |(_, addend): (u64, u64)| (text.vaddr..text.vaddr + text.size).contains(&addend);
        assert!(relative_relocations(&image).any(to_code));
    }

    #[test]
    fn a_program_without_a_dynamic_segment_needs_nothing() {
        let file = crate::elf::sample::Sample::altered(|_| ());
        assert_eq!(usual_interpreter(&Image::parse(&file).unwrap()), None);
    }
}
