//! Maps an ELF image as `load_elf_binary` and `load_elf_interp` do (fs/binfmt_elf.c). Zone: load.
//!
//! Segments are private mappings of the file at its own offsets, so debuggers and profilers recognise them. Executable
//! ones are left readable and writable: they get their rights once their system calls have been replaced. Where that would
//! be refused (PR_SET_MDWE) they have them from the start.

use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr, PAGE, page_ceil, page_floor};
use crate::elf::image::{Image, Kind, Segment};
use crate::sys::fd::Fd;
use crate::sys::mem::{self, Place};
use crate::sys::process;
use alloc::vec::Vec;

/// Where a relocatable image goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base {
    /// Wherever the kernel maps things.
    Anywhere,
    /// Here, if that is free.
    Preferred(GuestAddr),
}

/// Pages that are to be executable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    /// The pages.
    pub range: AddrRange,
    /// The rights that the image asks for.
    pub protection: Protection,
}

/// An image in memory.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Run-time address minus link-time address, modulo 2^64.
    pub bias: u64,
    /// The pages from the lowest segment to the highest.
    pub span: AddrRange,
    /// The executable parts.
    pub texts: Vec<Text>,
}

impl Mapping {
    /// The run-time address of a link-time one.
    #[must_use]
    pub(crate) const fn at(&self, vaddr: u64) -> GuestAddr {
        GuestAddr(vaddr.wrapping_add(self.bias))
    }
}

/// Maps `image`, the file behind `fd`.
///
/// # Errors
///
/// The kernel's; `EEXIST` if an image that must lie at fixed addresses finds them taken, `EFAULT` if the file ends
/// before a page that has to be zeroed in part, as natively.
pub(crate) fn map(image: &Image<'_>, fd: Fd, base: Base) -> Result<Mapping, Errno> {
    let (low, high) = image.span();
    let span = reserve(image, AddrRange::new(GuestAddr(low), GuestAddr(high)), base)?;
    let mut mapping = Mapping { bias: span.start.0.wrapping_sub(low), span, texts: Vec::new() };
    let mut mapped = Vec::with_capacity(image.segments().len());
    for segment in image.segments() {
        match map_segment(segment, image.file().len() as u64, fd, &mut mapping) {
            Ok(range) => mapped.push(range),
            Err(errno) => {
                mem::unmap(span);
                return Err(errno);
            }
        }
    }
    unmap_gaps(span, &mapped);
    Ok(mapping)
}

/// An image that lies in memory already, with this bias.
#[must_use]
pub(crate) fn taken(image: &Image<'_>, bias: u64) -> Mapping {
    let at = |vaddr: u64| GuestAddr(vaddr.wrapping_add(bias));
    let text = |segment: &Segment| Text {
        // No segment reaches beyond the address space.
        range: AddrRange::new(
            at(page_floor(segment.vaddr)),
            at(page_ceil(segment.end()).unwrap_or(u64::MAX)),
        ),
        protection: Protection::new(segment.readable, segment.writable, true),
    };
    let (low, high) = image.span();
    Mapping {
        bias,
        span: AddrRange::new(at(low), at(high)),
        texts: image.segments().iter().filter(|segment| segment.executable).map(text).collect(),
    }
}

/// Takes address space for the whole image, so that its segments can be put over it.
fn reserve(image: &Image<'_>, linked: AddrRange, base: Base) -> Result<AddrRange, Errno> {
    let len = linked.len();
    let at = |start: GuestAddr| AddrRange::new(start, start.wrapping_add(len));
    match (image.kind(), base) {
        (Kind::Fixed, _) => mem::map_anonymous(Place::Free(linked.start), len, Protection::NONE).map(at),
        (Kind::Relocatable, Base::Preferred(wanted)) => {
            let start =
                GuestAddr(wanted.0 & !(image.align() - 1)).wrapping_add(linked.start.0 % image.align());
            mem::map_anonymous(Place::Free(start), len, Protection::NONE)
                .map(at)
                .or_else(|_| reserve_aligned(len, image.align(), linked.start.0))
        }
        (Kind::Relocatable, Base::Anywhere) => reserve_aligned(len, image.align(), linked.start.0),
    }
}

/// Takes `len` bytes that start at `phase` modulo `align`.
fn reserve_aligned(len: u64, align: u64, phase: u64) -> Result<AddrRange, Errno> {
    let slack = align - PAGE;
    let total = len.checked_add(slack).ok_or(Errno::ENOMEM)?;
    let got = mem::map_anonymous(Place::Anywhere, total, Protection::NONE)?;
    let got = AddrRange::new(got, got.wrapping_add(total));
    // The highest fitting place: nearest to what the kernel would have chosen without the slack.
    let highest = got.end.wrapping_sub(len);
    let start = highest.wrapping_sub(highest.0.wrapping_sub(phase) & (align - 1));
    let taken = AddrRange::new(start, start.wrapping_add(len));
    mem::unmap(AddrRange::new(got.start, taken.start));
    mem::unmap(AddrRange::new(taken.end, got.end));
    Ok(taken)
}

/// Maps one segment's file pages and zeroed pages; returns the pages that it took.
fn map_segment(segment: &Segment, file_len: u64, fd: Fd, mapping: &mut Mapping) -> Result<AddrRange, Errno> {
    let rights = Protection::new(segment.readable, segment.writable, segment.executable);
    let may_wait = rights.executable() && process::memory_may_become_executable();
    let now = if may_wait { rights.while_patching() } else { rights };
    let start = mapping.at(page_floor(segment.vaddr));
    let file_end = mapping.at(segment.vaddr).wrapping_add(segment.file_size);
    let end = mapping.at(segment.vaddr).wrapping_add(segment.mem_size);
    let file_pages = if segment.file_size == 0 {
        AddrRange::new(start, start)
    } else {
        AddrRange::new(start, GuestAddr(page_ceil(file_end.0).ok_or(Errno::ENOMEM)?))
    };
    let pages = AddrRange::new(start, GuestAddr(page_ceil(end.0).ok_or(Errno::ENOMEM)?).max(file_pages.end));
    if !file_pages.is_empty() {
        mem::map_file(Place::Over(start), file_pages.len(), now, fd, page_floor(segment.offset))?;
    }
    let zeroed = AddrRange::new(file_pages.end, pages.end);
    if !zeroed.is_empty() {
        mem::map_zeroed(zeroed.start, zeroed.len(), now)?;
    }
    if segment.mem_size > segment.file_size && segment.writable && !file_pages.is_empty() {
        clear_tail(segment, file_len, AddrRange::new(file_end, file_pages.end.min(pages.end)))?;
    }
    if rights.executable() {
        mapping.texts.push(Text { range: pages, protection: rights });
    }
    Ok(pages)
}

/// Zeroes what the file holds behind the segment's end in its last page. The kernel does so in writable segments and
/// leaves the others as they are (`padzero`).
fn clear_tail(segment: &Segment, file_len: u64, tail: AddrRange) -> Result<(), Errno> {
    let last_byte = segment.offset.wrapping_add(segment.file_size);
    if !tail.is_empty() && page_floor(last_byte) >= page_ceil(file_len).unwrap_or(u64::MAX) {
        return Err(Errno::EFAULT); // a page wholly behind the end of the file: touching it raises SIGBUS
    }
    let at = core::ptr::with_exposed_provenance_mut::<u8>(tail.start.0 as usize);
    // SAFETY: the tail lies in the last file page of a segment that was just mapped writable.
    unsafe { core::ptr::write_bytes(at, 0, tail.len() as usize) };
    Ok(())
}

/// Leaves holes between segments unmapped, as the kernel does.
fn unmap_gaps(span: AddrRange, mapped: &[AddrRange]) {
    let mut sorted: Vec<AddrRange> = mapped.to_vec();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut end = span.start;
    for range in sorted {
        mem::unmap(AddrRange::new(end, range.start));
        end = end.max(range.end);
    }
    mem::unmap(AddrRange::new(end, span.end));
}
