//! The vDSO: its functions fall back to real system calls, which are patched like anybody's. Zone: load.

use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr, PAGE, page_ceil};
use crate::elf::image::Image;
use crate::find::site::Text;
use crate::runtime::code::job::{Access, Job};
use crate::runtime::code::patcher::Patcher;
use crate::runtime::code::reach::Reach;
use crate::runtime::memory::read;
use crate::sys::{mem, process};

/// Patches the vDSO whose ELF header lies at `at` (AT_SYSINFO_EHDR).
///
/// It is a special mapping that can't be split, so its protection changes as a whole; where even that is refused (a
/// sealed vDSO) the bytes are written as those of running code are.
pub(crate) fn patch(patcher: &mut Patcher, at: u64) {
    // SAFETY: the kernel maps the vDSO's image there, at least one page of it.
    let first = unsafe { read::bytes_of(GuestAddr(at), PAGE) };
    let Some(len) = image_len(first) else { return };
    let range = AddrRange::new(GuestAddr(at), GuestAddr(at.wrapping_add(len)));
    // SAFETY: its section headers, which it has in memory, end there.
    let bytes = unsafe { read::bytes_of(range.start, len) };
    let Ok(image) = Image::parse(bytes) else { return };
    let may_wait = process::memory_may_become_executable();
    let access = if may_wait && mem::protect(range, Protection::READ_WRITE).is_ok() {
        Access::Writable
    } else {
        Access::Executable
    };
    let text = Text { at: range.start, bytes };
    let job = Job {
        text,
        access,
        image: Some(&image),
        bias: at,
        reach: Reach::around(range),
        shift: 0,
        executed: None,
    };
    patcher.patch(&job);
    if access == Access::Writable {
        // Refused only where changing it would have been refused, too.
        let _ = mem::protect(range, Protection::READ_EXECUTE);
    }
}

/// The image's length in whole pages: its section headers stand at its end.
fn image_len(header: &[u8]) -> Option<u64> {
    let word = |at: usize, len: usize| {
        let bytes = header.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte)))
    };
    // Elf64_Ehdr: e_shoff at 40, e_shentsize at 58, e_shnum at 60.
    page_ceil(word(40, 8)?.checked_add(word(58, 2)? * word(60, 2)?)?)
}
