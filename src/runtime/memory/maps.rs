//! What the kernel says about mappings: `/proc/self/maps`. Zone: load, and call with the patcher's lock held.
//!
//! It is read only when code is found that has to be changed, for which rights must be known to be put back.

use crate::abi::errno::Errno;
use crate::abi::map::{Protection, Sharing};
use crate::addr::{AddrRange, GuestAddr};
use crate::sys::file::{self, Access, OpenFile};
use alloc::ffi::CString;
use alloc::vec::Vec;

/// One mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mapping {
    /// Where it lies.
    pub range: AddrRange,
    /// Its rights.
    pub protection: Protection,
    /// Whether what is written stays in the process.
    pub sharing: Sharing,
    /// Where in its file it starts, in bytes.
    pub offset: u64,
    /// The inode of its file; 0 if it has none.
    pub inode: u64,
    /// The file's path, or a name in brackets; empty for most memory without a file.
    pub name: CString,
}

impl Mapping {
    /// Its file, if that is still found by its path.
    #[must_use]
    pub(crate) fn file(&self) -> Option<OpenFile> {
        let file = OpenFile::open(&self.name, Access::Read).ok().filter(|_| self.inode != 0)?;
        let facts = file::facts(file.fd()).ok()?;
        (facts.identity.inode() == self.inode).then_some(file)
    }
}

/// A line of the list: a mapping whose name is still as the kernel writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Line<'a> {
    /// Where it lies.
    pub range: AddrRange,
    /// Its rights.
    pub protection: Protection,
    /// Whether what is written stays in the process.
    pub sharing: Sharing,
    /// Where in its file it starts, in bytes.
    pub offset: u64,
    /// The inode of its file; 0 if it has none.
    pub inode: u64,
    name: &'a [u8],
}

impl Line<'_> {
    /// The file's path, or a name in brackets. The kernel escapes a newline (fs/proc/task_mmu.c, `show_map_vma`).
    pub(crate) fn name(&self) -> impl Iterator<Item = u8> {
        const NEWLINE: &[u8] = b"\\012";
        let mut rest = self.name;
        core::iter::from_fn(move || {
            let (byte, after) = match rest.strip_prefix(NEWLINE) {
                Some(after) => (b'\n', after),
                None => rest.split_first().map(|(&byte, after)| (byte, after))?,
            };
            rest = after;
            Some(byte)
        })
    }
}

/// The parts of mappings that lie in `range`, in ascending order.
///
/// # Errors
///
/// The kernel's, where there is no `/proc`.
pub(crate) fn within(range: AddrRange) -> Result<Vec<Mapping>, Errno> {
    let mut parts = Vec::new();
    each_line(&mut |line| {
        if line.range.overlaps(&range)
            && let Ok(name) = CString::new(line.name().collect::<Vec<u8>>())
        {
            let part = line.range.intersection(&range);
            let offset = line.offset + (part.start.0 - line.range.start.0);
            let Line { protection, sharing, inode, .. } = *line;
            parts.push(Mapping { range: part, protection, sharing, offset, inode, name });
        }
        line.range.end < range.end
    })?;
    Ok(parts)
}

/// Calls `see` with each mapping, in ascending order, as long as it wants more. Takes nothing from the heap: there may be as
/// many as 65,530, and no memory for one more.
///
/// # Errors
///
/// The kernel's, where there is no `/proc`.
pub(crate) fn each_line(see: &mut dyn FnMut(&Line<'_>) -> bool) -> Result<(), Errno> {
    let file = OpenFile::open(c"/proc/self/maps", Access::Read)?;
    // A page of lines, and the start of one before it: the kernel hands out whole lines, at most a page of them.
    let mut bytes = [0_u8; 8192];
    let mut kept = 0;
    loop {
        let read = file::read(file.fd(), bytes.get_mut(kept..).unwrap_or_default())?;
        if read == 0 {
            return Ok(());
        }
        let len = kept + read;
        let text = bytes.get(..len).unwrap_or_default();
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let mut lines = text.get(..whole).unwrap_or_default().split(|&byte| byte == b'\n');
        if !lines.all(|line| parse(line).is_none_or(|line| see(&line))) {
            return Ok(());
        }
        // A line that is longer than there is room for is none that a path can make.
        kept = if whole == 0 && len == bytes.len() { 0 } else { len - whole };
        bytes.copy_within(len - kept..len, 0);
    }
}

/// `start-end perms offset dev inode path` (Documentation/filesystems/proc.rst).
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let mut ends = fields.next()?.split(|&byte| byte == b'-').map(|digits| number(digits, 16));
    let (start, end) = (ends.next()??, ends.next()??);
    let rights = fields.next()?;
    let offset = number(fields.next()?, 16)?;
    let _device = fields.next()?;
    let inode = number(fields.next()?, 10)?;
    let name = fields.next().unwrap_or_default().trim_ascii_start();
    let has = |index: usize, letter: u8| rights.get(index) == Some(&letter);
    Some(Line {
        range: AddrRange::new(GuestAddr(start), GuestAddr(end)),
        protection: Protection::new(has(0, b'r'), has(1, b'w'), has(2, b'x')),
        sharing: if has(3, b's') { Sharing::Shared } else { Sharing::Private },
        offset,
        inode,
        name,
    })
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(core::str::from_utf8(digits).ok()?, radix).ok()
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
        assert_eq!((mapping.offset, mapping.inode, mapping.sharing), (0x1000, 325_843, Sharing::Private));
        assert_eq!(mapping.protection, Protection::READ_EXECUTE);
        assert_eq!(mapping.name, b"/tmp/a b [stack]");
    }

    #[test]
    fn reads_lines_of_memory_without_a_file() {
        let stack =
            parse(b"7ffc97b19000-7ffc97b3a000 rw-p 00000000 00:00 0                          [stack]");
        assert_eq!(stack.unwrap().name, b"[stack]");
        let shared = parse(b"7f9781872000-7f9781894000 ---s 00000000 00:00 0 ").unwrap();
        assert_eq!((shared.sharing, shared.protection), (Sharing::Shared, Protection::NONE));
        assert!(shared.name.is_empty());
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_newline_in_a_name_is_read_as_one() {
        let line = parse(b"1000-2000 r-xp 00000000 fe:00 9 /a\\012b\\01c\\").unwrap();
        assert_eq!(line.name().collect::<Vec<u8>>(), b"/a\nb\\01c\\");
    }

    #[test]
    fn finds_the_mappings_of_a_constant_and_of_a_variable() {
        let constant: &'static [u8; 3] = &[1, 2, 3];
        let variable = [4_u8; 3];
        let [constant, variable] = [constant, &variable].map(|bytes| {
            let at = GuestAddr(bytes.as_ptr().addr() as u64);
            let found = within(AddrRange::new(at, at.wrapping_add(1))).unwrap();
            assert_eq!((found.len(), found[0].range.start), (1, at));
            found.into_iter().next().unwrap()
        });
        assert!(constant.file().is_some() && !constant.protection.writable());
        assert!(variable.file().is_none() && variable.protection.writable());
    }
}
