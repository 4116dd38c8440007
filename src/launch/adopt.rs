//! Patching what is in memory before the program runs: freshly mapped images, the one that the kernel has mapped, the
//! vDSO. Zone: load.

use crate::abi::errno::Errno;
use crate::addr::{GuestAddr, page_ceil, page_floor};
use crate::elf::image::Image;
use crate::find::site::Text;
use crate::load::map::Mapping;
use crate::runtime::backstop::sud;
use crate::runtime::code::concern::Reason;
use crate::runtime::code::job::{Access, Job};
use crate::runtime::code::reach::Reach;
use crate::runtime::code::{notes, patcher, vdso};
use crate::runtime::memory::{file_pages, read};
use crate::sys::signal::AllBlocked;
use crate::sys::{mem, process};
use crate::x86::scan::SyscallBytes;

/// Patches a freshly mapped image and gives its texts their rights. Punned jumps get their trampolines in `reach`, or
/// around the image; returns the end of the highest.
///
/// # Errors
///
/// The kernel's, if the rights can't be had.
pub(super) fn adopt(image: &Image<'_>, mapping: &Mapping, reach: Option<Reach>) -> Result<GuestAddr, Errno> {
    let _blocked = AllBlocked::new();
    let mut patcher = patcher::lock();
    file_pages::known().insert(mapping.span);
    mapping.texts.iter().for_each(|part| file_pages::known().remove(part.range));
    let access = if process::memory_may_become_executable() { Access::Fresh } else { Access::Executable };
    let mut end = mapping.span.end;
    for part in &mapping.texts {
        let len = readable_len(image, part.range.start.0.wrapping_sub(mapping.bias), part.range.len());
        // SAFETY: the pages were just mapped readable, and the file reaches that far.
        let bytes = unsafe { read::bytes_of(part.range.start, len) };
        let text = Text { at: part.range.start, bytes };
        let reach = reach.unwrap_or_else(|| Reach::around(part.range));
        let job =
            Job { text, access, image: Some(image), bias: mapping.bias, reach, shift: 0, executed: None };
        end = end.max(patcher.patch(&job));
        sud::consider(&mut patcher);
        mem::protect(part.range, part.protection)?;
        if part.protection.writable() {
            sud::need(&mut patcher, Reason::Writable, part.range.start);
        }
    }
    Ok(end)
}

/// Patches an image that the kernel has mapped executable; nobody executes it yet. Its bytes are read from the file and
/// written only where something is replaced, so breakpoints that a debugger has set already stay. Returns the end of the
/// highest trampoline.
///
/// # Errors
///
/// The kernel's, if the rights can't be had back.
pub(super) fn adopt_in_place(image: &Image<'_>, mapping: &Mapping, reach: Reach) -> Result<GuestAddr, Errno> {
    let _blocked = AllBlocked::new();
    let mut patcher = patcher::lock();
    let mut end = mapping.span.end;
    let segments = image.segments().iter().filter(|segment| segment.executable);
    for (segment, part) in segments.zip(&mapping.texts) {
        let len = readable_len(image, page_floor(segment.vaddr), part.range.len());
        let offset = page_floor(segment.offset) as usize;
        let bytes = image.file().get(offset..).unwrap_or_default();
        let bytes = bytes.get(..len as usize).unwrap_or(bytes);
        if SyscallBytes::of(bytes).next().is_none() {
            notes::note_without_hits(part.range);
            continue;
        }
        mem::protect(part.range, part.protection.while_patching())?;
        let text = Text { at: part.range.start, bytes };
        let job = Job {
            text,
            access: Access::Writable,
            image: Some(image),
            bias: mapping.bias,
            reach,
            shift: 0,
            executed: None,
        };
        end = end.max(patcher.patch(&job));
        sud::consider(&mut patcher);
        mem::protect(part.range, part.protection)?;
        if part.protection.writable() {
            sud::need(&mut patcher, Reason::Writable, part.range.start);
        }
    }
    Ok(end)
}

/// How much of `len` bytes from link-time address `vaddr` on can be read without running past the end of the file.
fn readable_len(image: &Image<'_>, vaddr: u64, len: u64) -> u64 {
    let segment = image.segments().iter().find(|segment| page_floor(segment.vaddr) == vaddr);
    segment.map_or(0, |segment| {
        let file_end = page_ceil(image.file().len() as u64).unwrap_or(0);
        let last = page_ceil(segment.vaddr.wrapping_add(segment.file_size)).unwrap_or(0);
        len.min(last.saturating_sub(vaddr)).min(file_end.saturating_sub(page_floor(segment.offset)))
    })
}

/// Patches the vDSO whose ELF header lies at `at` (AT_SYSINFO_EHDR), if there is one.
pub(super) fn adopt_vdso(at: Option<u64>) {
    if let Some(at) = at.filter(|&at| at != 0) {
        let mut patcher = patcher::lock();
        vdso::patch(&mut patcher, at);
        sud::consider(&mut patcher);
    }
}
