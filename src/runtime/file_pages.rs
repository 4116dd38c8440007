//! Pages of files that are mapped without execution, and may be given it later. Zone: load, and call with the modules'
//! lock held.
//!
//! Code that a program generates is anonymous, and so is found by nobody here; its `mprotect` calls must stay cheap.
//! So the table remembers roughly where file pages lie, and only an `mprotect` that touches one of them looks closer.
//! Roughly: a range stays known after it is unmapped, which costs a look at `/proc/self/maps` and no more.

use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr};
use crate::runtime::modules::{Access, Modules};
use crate::sys::file::{self, OpenFile};
use crate::sys::mem;
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

const RANGES: usize = 256;

/// Ranges of pages; once full, everything counts as one of them.
#[derive(Debug)]
pub struct FilePages {
    starts: [AtomicU64; RANGES],
    ends: [AtomicU64; RANGES],
    len: AtomicU64,
}

impl FilePages {
    /// No pages.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            starts: [const { AtomicU64::new(0) }; RANGES],
            ends: [const { AtomicU64::new(0) }; RANGES],
            len: AtomicU64::new(0),
        }
    }

    /// Adds a range.
    pub fn insert(&self, range: AddrRange) {
        if self.holds(range) {
            return;
        }
        let index = self.len.fetch_add(1, Ordering::Relaxed) as usize;
        if let (Some(start), Some(end)) = (self.starts.get(index), self.ends.get(index)) {
            start.store(range.start.0, Ordering::Relaxed);
            end.store(range.end.0, Ordering::Release);
        }
    }

    /// Whether `range` may hold pages of a file.
    #[must_use]
    pub fn overlaps(&self, range: AddrRange) -> bool {
        self.len.load(Ordering::Relaxed) > RANGES as u64 || self.ranges().any(|known| known.overlaps(&range))
    }

    /// Whether all of `range` is known to hold pages of one file.
    #[must_use]
    pub fn holds(&self, range: AddrRange) -> bool {
        self.ranges().any(|known| known.contains(range.start) && range.end <= known.end)
    }

    fn ranges(&self) -> impl Iterator<Item = AddrRange> {
        self.starts.iter().zip(&self.ends).map(|(start, end)| {
            let end = end.load(Ordering::Acquire);
            AddrRange::new(GuestAddr(start.load(Ordering::Relaxed)), GuestAddr(end))
        })
    }
}

impl Default for FilePages {
    fn default() -> Self {
        Self::new()
    }
}

/// One line of `/proc/self/maps` that names a file.
struct FileMapping {
    range: AddrRange,
    protection: Protection,
    offset: u64,
    path: CString,
}

/// Patches the pages of files in `range`, which are about to become executable.
pub fn patch(modules: &mut Modules, range: AddrRange) {
    let Ok(maps) = read_whole(c"/proc/self/maps") else { return };
    for line in maps.split(|&byte| byte == b'\n') {
        let Some(mapping) = parse(line) else { continue };
        let part = mapping.range.intersection(&range);
        if part.is_empty() || mapping.protection.executable() {
            continue; // executable already means patched already
        }
        let Ok(file) = OpenFile::open(&mapping.path, file::Access::Read) else { continue };
        if mem::protect(part, mapping.protection.while_patching()).is_ok() {
            let offset = mapping.offset + (part.start.0 - mapping.range.start.0);
            modules.patch_file(part, file.fd(), offset, Access::Writable);
        }
    }
}

fn read_whole(path: &core::ffi::CStr) -> Result<Vec<u8>, crate::abi::errno::Errno> {
    let file = OpenFile::open(path, file::Access::Read)?;
    let mut bytes = Vec::new();
    let mut page = [0_u8; 4096];
    loop {
        match file::read(file.fd(), &mut page)? {
            0 => return Ok(bytes),
            len => bytes.extend_from_slice(page.get(..len).unwrap_or_default()),
        }
    }
}

/// `start-end perms offset dev inode path` (Documentation/filesystems/proc.rst).
fn parse(line: &[u8]) -> Option<FileMapping> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let mut ends = fields.next()?.split(|&byte| byte == b'-').map(hex);
    let (start, end) = (ends.next()??, ends.next()??);
    let rights = fields.next()?;
    let offset = hex(fields.next()?)?;
    let (_device, _inode) = (fields.next()?, fields.next()?);
    let path = fields.next()?.trim_ascii_start();
    let has = |index: usize, letter: u8| rights.get(index) == Some(&letter);
    (path.first() == Some(&b'/')).then_some(())?;
    Some(FileMapping {
        range: AddrRange::new(GuestAddr(start), GuestAddr(end)),
        protection: Protection::new(has(0, b'r'), has(1, b'w'), has(2, b'x')),
        offset,
        path: CString::new(path).ok()?,
    })
}

fn hex(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_with_a_strange_name() {
        let line =
            b"7f9781aed000-7f9781b13000 r-xp 00001000 fe:00 325843                     /tmp/a b [stack]";
        let mapping = parse(line).unwrap();
        assert_eq!(mapping.range.start, GuestAddr(0x7f97_81ae_d000));
        assert_eq!(mapping.offset, 0x1000);
        assert!(mapping.protection.executable());
        assert_eq!(mapping.path.as_bytes(), b"/tmp/a b [stack]");
    }

    #[test]
    fn passes_over_memory_without_a_file() {
        assert!(
            parse(b"7ffc97b19000-7ffc97b3a000 rw-p 00000000 00:00 0                          [stack]")
                .is_none()
        );
        assert!(parse(b"7f9781872000-7f9781894000 rw-p 00000000 00:00 0 ").is_none());
        assert!(parse(b"").is_none());
    }

    #[test]
    fn forgets_nothing_when_full() {
        let pages = FilePages::new();
        for index in 0..300_u64 {
            let start = GuestAddr(0x1000_0000 + index * 0x10_0000);
            pages.insert(AddrRange::new(start, start.wrapping_add(0x1000)));
        }
        assert!(pages.overlaps(AddrRange::new(GuestAddr(0x7000_0000_0000), GuestAddr(0x7000_0000_1000))));
    }
}
