//! What the kernel says about mappings: `/proc/self/maps`. Zone: load, and call with the modules' lock held.
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
pub struct Mapping {
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
    /// What of it lies in `range`.
    fn part(self, range: AddrRange) -> Self {
        let part = self.range.intersection(&range);
        let offset = self.offset + (part.start.0 - self.range.start.0);
        Self { range: part, offset, ..self }
    }

    /// Its file, if that is still found by its path.
    #[must_use]
    pub fn file(&self) -> Option<OpenFile> {
        let file = OpenFile::open(&self.name, Access::Read).ok().filter(|_| self.inode != 0)?;
        let facts = file::facts(file.fd()).ok()?;
        (facts.identity.inode() == self.inode).then_some(file)
    }
}

/// The parts of mappings that lie in `range`, in ascending order.
///
/// # Errors
///
/// The kernel's, where there is no `/proc`.
pub fn within(range: AddrRange) -> Result<Vec<Mapping>, Errno> {
    let file = OpenFile::open(c"/proc/self/maps", Access::Read)?;
    let mut found = Vec::new();
    let mut unread = Vec::new();
    let mut page = [0_u8; 4096];
    // Line by line: there may be as many as 65,530, and no memory for more.
    loop {
        let len = file::read(file.fd(), &mut page)?;
        unread.extend_from_slice(page.get(..len).unwrap_or_default());
        let whole = unread.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        for line in unread.get(..whole).unwrap_or_default().split(|&byte| byte == b'\n') {
            match span(line) {
                Some(span) if span.start >= range.end => return Ok(found),
                Some(span) if span.overlaps(&range) => found.extend(parse(line).map(|it| it.part(range))),
                _ => {}
            }
        }
        unread.drain(..whole);
        if len == 0 {
            return Ok(found);
        }
    }
}

/// What a line begins with: `start-end`.
fn span(line: &[u8]) -> Option<AddrRange> {
    let mut ends = line.split(|&byte| byte == b' ').next()?.split(|&byte| byte == b'-');
    let mut end = || ends.next().and_then(|digits| number(digits, 16)).map(GuestAddr);
    Some(AddrRange::new(end()?, end()?))
}

/// `start-end perms offset dev inode path` (Documentation/filesystems/proc.rst).
fn parse(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let range = span(fields.next()?)?;
    let rights = fields.next()?;
    let offset = number(fields.next()?, 16)?;
    let _device = fields.next()?;
    let inode = number(fields.next()?, 10)?;
    let name = fields.next().unwrap_or_default().trim_ascii_start();
    let has = |index: usize, letter: u8| rights.get(index) == Some(&letter);
    Some(Mapping {
        range,
        protection: Protection::new(has(0, b'r'), has(1, b'w'), has(2, b'x')),
        sharing: if has(3, b's') { Sharing::Shared } else { Sharing::Private },
        offset,
        inode,
        name: CString::new(name).ok()?,
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
        assert_eq!(mapping.name.as_bytes(), b"/tmp/a b [stack]");
    }

    #[test]
    fn reads_lines_of_memory_without_a_file() {
        let stack =
            parse(b"7ffc97b19000-7ffc97b3a000 rw-p 00000000 00:00 0                          [stack]");
        assert_eq!(stack.unwrap().name.as_bytes(), b"[stack]");
        let shared = parse(b"7f9781872000-7f9781894000 ---s 00000000 00:00 0 ").unwrap();
        assert_eq!((shared.sharing, shared.protection), (Sharing::Shared, Protection::NONE));
        assert!(shared.name.is_empty() && shared.file().is_none());
        assert_eq!(parse(b""), None);
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
