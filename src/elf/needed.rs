//! Which libraries a program asks for, and by that, which dynamic loader is its.
//!
//! Read from the dynamic segment (gABI, "Dynamic Section") at link-time addresses; whatever is damaged ends the list.

use core::ffi::CStr;

use goblin::elf64::dynamic::{DT_NEEDED, DT_NULL, DT_STRTAB};
use goblin::elf64::program_header::PT_DYNAMIC;

use super::header;
use super::image::Image;

/// The dynamic loader of a program linked against glibc (psABI, "Program Interpreter").
pub const GLIBC: &CStr = c"/lib64/ld-linux-x86-64.so.2";
/// The dynamic loader of a program linked against musl (musl's INSTALL).
pub const MUSL: &CStr = c"/lib/ld-musl-x86_64.so.1";

/// The usual dynamic loader of a program, by the C library among what it needs; `None` if it needs nothing.
#[must_use]
pub fn usual_interpreter(image: &Image<'_>) -> Option<&'static CStr> {
    let is_musl = |name: &[u8]| name == b"libc.so" || name.starts_with(b"libc.musl-");
    let mut names = names(image).peekable();
    names.peek()?;
    Some(if names.any(is_musl) { MUSL } else { GLIBC })
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
    fn a_program_without_a_dynamic_segment_needs_nothing() {
        let file = crate::elf::sample::Sample::altered(|_| ());
        assert_eq!(usual_interpreter(&Image::parse(&file).unwrap()), None);
    }
}
