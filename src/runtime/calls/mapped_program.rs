//! The file of a loaded program, by the kernel's own account. Zone: call.
//!
//! The kernel knows where a process's program code starts, for the loader has told it (`PR_SET_MM_MAP`), and what is
//! mapped there. So any loaded process can be asked, one's own or another, through the rights that its `exe` link
//! needs too; and the path is the one that the link would show, whatever has become of the file since.

use crate::abi::open::PATH_MAX;
use crate::sys::file::{self, Access, OpenFile};
use crate::sys::line::Line;
use core::ffi::CStr;
use core::fmt::Write as _;

/// Behind the path of a file that has no name any more (fs/d_path.c).
pub(crate) const DELETED: &[u8] = b" (deleted)";

/// Bytes of a line of `/proc/PID/maps`: what stands before the path takes 73, and a newline in the path four.
const LINE_LEN: usize = PATH_MAX + 512;

/// Bytes of a path in `/proc`, its closing zero byte among them: a `/proc` that is mounted deeper is not looked into.
pub(crate) const PROC_PATH_LEN: usize = 192;

/// A path, the mark of a deleted file, and a closing zero byte.
type Path = Line<{ PATH_MAX + 16 }>;
/// A path in `/proc`; one that does not fit is cut off, and so not closed.
type ProcPath = Line<PROC_PATH_LEN>;

/// Field of `/proc/PID/stat` that says where the program's code starts, counted from the one behind the name (man 5
/// proc_pid_stat: the 26th of all).
const START_CODE: usize = 23;

/// A program's file.
#[derive(Debug)]
pub(crate) struct ProgramFile {
    shown: Path,
    /// The way to a file that has no name any more, for those who may use it; else empty.
    mapping: ProcPath,
}

impl ProgramFile {
    /// The file at `path`, which may be marked as deleted.
    #[must_use]
    pub(crate) fn at(path: &[u8]) -> Self {
        let mut file = Self { shown: Path::new(), mapping: ProcPath::new() };
        file.shown.push(path);
        file.shown.push(b"\0");
        file
    }

    /// That of the loaded process whose directory in `/proc` is `directory`; `None` if it can't be found out.
    #[must_use]
    pub(crate) fn of(directory: &[u8]) -> Option<Self> {
        let start = start_code(directory)?;
        let maps = open(directory, b"/maps")?;
        let mut found = None;
        for_each_line(&maps, |line| {
            let (range, path) = mapping(line)?;
            let (from, to) = bounds(range)?;
            if (from..to).contains(&start) && path.first() == Some(&b'/') {
                found = Some(Self::mapped(directory, range, path));
            }
            (from <= start).then_some(())
        });
        found
    }

    fn mapped(directory: &[u8], range: &[u8], path: &[u8]) -> Self {
        let mut file = Self::at(path);
        if path.ends_with(DELETED)
            && let Some((from, to)) = bounds(range)
        {
            file.mapping.push(directory);
            let _ = write!(file.mapping, "/map_files/{from:x}-{to:x}\0");
        }
        file
    }

    /// What a link to it shows.
    #[must_use]
    pub(crate) fn shown(&self) -> &[u8] {
        self.shown.as_bytes().strip_suffix(b"\0").unwrap_or_default()
    }

    /// The path by which it is opened.
    #[must_use]
    pub(crate) fn path(&self) -> &CStr {
        let opened =
            if self.mapping.as_bytes().is_empty() { self.shown.as_bytes() } else { self.mapping.as_bytes() };
        CStr::from_bytes_until_nul(opened).unwrap_or_default()
    }
}

/// Opens a file of a process's directory.
fn open(directory: &[u8], name: &[u8]) -> Option<OpenFile> {
    let mut path = ProcPath::new();
    [directory, name, b"\0"].into_iter().for_each(|part| path.push(part));
    OpenFile::open(CStr::from_bytes_with_nul(path.as_bytes()).ok()?, Access::Read).ok()
}

fn start_code(directory: &[u8]) -> Option<u64> {
    let stat = open(directory, b"/stat")?;
    let mut buffer = [0; 1024];
    let len = file::read(stat.fd(), &mut buffer).ok()?;
    let text = buffer.get(..len)?;
    let name_end = text.iter().rposition(|&byte| byte == b')')?;
    let field = text.get(name_end + 2..)?.split(|&byte| byte == b' ').nth(START_CODE)?;
    core::str::from_utf8(field).ok()?.parse().ok()
}

/// Range and path in a line of `/proc/PID/maps`; the path is the sixth field and may hold spaces.
fn mapping(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let range = line.split(|&byte| byte == b' ').next()?;
    let mut rest = line;
    for _ in 0..5 {
        let field = rest.iter().position(|&byte| byte == b' ')?;
        let next = rest.get(field..)?.iter().position(|&byte| byte != b' ').unwrap_or(rest.len() - field);
        rest = rest.get(field + next..)?;
    }
    Some((range, rest))
}

/// The addresses in `FROM-TO`.
fn bounds(range: &[u8]) -> Option<(u64, u64)> {
    let (from, to) = core::str::from_utf8(range).ok()?.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some((address(from)?, address(to)?))
}

/// Gives each line to `take`, until that has none or has had enough.
fn for_each_line(file: &OpenFile, mut take: impl FnMut(&[u8]) -> Option<()>) {
    let mut buffer = [0; LINE_LEN];
    let mut len = 0;
    loop {
        let Some(room) = buffer.get_mut(len..) else { return };
        match file::read(file.fd(), room) {
            Ok(0) | Err(_) => return,
            Ok(more) => len += more,
        }
        let Some(text) = buffer.get(..len) else { return };
        let mut start = 0;
        for line in text.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            start += line.len();
            if take(line.strip_suffix(b"\n").unwrap_or(line)).is_none() {
                return;
            }
        }
        buffer.copy_within(start..len, 0);
        len -= start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_range_and_path_of_a_mapping() {
        let line = b"00400000-0048c000 r-xp 00001000 fe:01 77   /tmp/a b (deleted)";
        assert_eq!(mapping(line), Some((&b"00400000-0048c000"[..], &b"/tmp/a b (deleted)"[..])));
        assert_eq!(mapping(b"7f00-7f01 rw-p 00000000 00:00 0 "), Some((&b"7f00-7f01"[..], &b""[..])));
        for line in [&b""[..], b"x", b"1-2 r-xp"] {
            assert_eq!(mapping(line), None);
        }
        assert_eq!(bounds(b"00400000-0048c000"), Some((0x40_0000, 0x48_c000)));
    }

    #[test]
    fn finds_the_file_of_this_process() {
        let own = std::env::current_exe().unwrap();
        let file = ProgramFile::of(b"/proc/self").unwrap();
        assert_eq!(file.shown(), own.as_os_str().as_encoded_bytes());
        assert_eq!(file.path().to_bytes(), file.shown());
        assert!(ProgramFile::of(b"/proc/self/nothing").is_none());
    }

    #[test]
    fn a_file_without_a_name_is_opened_by_its_mapping() {
        let file = ProgramFile::mapped(b"/proc/7", b"00400000-00401000", b"/x (deleted)");
        assert_eq!(file.shown(), b"/x (deleted)");
        assert_eq!(file.path(), c"/proc/7/map_files/400000-401000");
    }
}
