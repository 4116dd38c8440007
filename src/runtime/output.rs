//! Where a tool's words go. Zone: call.
//!
//! No descriptor is kept: a file is opened for each write, so the program can close what it likes and never meets one
//! of ours. Only a program that closes its stderr, as coreutils do at their end, leaves us a copy of it; and one that
//! changes its root or gives up rights, an open file, since its path may not lead there any more. Such a file is used
//! after a look at which one it is, for the program may have put its own in that place.

use crate::abi::call::Call;
use crate::abi::errno::Errno;
use crate::runtime::state::{Frozen, STATE, count};
use crate::sys::file::{self, Access, Fd, OpenFile};
use crate::sys::line::Line;
use core::ffi::CStr;
use core::fmt::{self, Write as _};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Where a copy of stderr goes if there is room: above the numbers that programs count through.
const HIGH: u32 = 500;

/// The process's stderr, or a file by its absolute path.
#[derive(Debug)]
pub enum Output {
    /// Descriptor 2, whatever the program has made of it.
    Stderr,
    /// A file, made when the loader started.
    File(&'static CStr),
}

impl Output {
    /// Makes a file for it, or empties it.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn create(path: &CStr) -> Result<(), Errno> {
        OpenFile::open(path, Access::Create).map(drop)
    }

    /// Before the program closes a descriptor: keeps a copy of its stderr if the tools still need it.
    pub fn before_close(&self, call: &Call) {
        if matches!(self, Self::Stderr)
            && Fd::from_argument(call.args[0]) == file::STDERR
            && let Ok(copy) = file::duplicate(file::STDERR, HIGH)
        {
            STATE.stderr_copy.store(copy.number() as u32, Ordering::Relaxed);
        }
    }

    /// Before a call after which the process may not reach the file: keeps it open.
    pub fn before_leaving(&self) {
        if let Self::File(path) = self
            && kept().is_none()
            && let Ok(open) = OpenFile::open(path, Access::Append)
        {
            keep(&open);
        }
    }

    /// Takes over what the loader that exec'd this one has kept open.
    pub fn inherit(file: &OpenFile) {
        keep(file);
    }

    /// The file that is kept open, for an exec'd loader to inherit.
    #[must_use]
    pub fn inheritance(&self) -> Option<OpenFile> {
        let copy = OpenFile::copy_of(kept()?).ok()?;
        copy.keep_at_exec().is_ok().then_some(copy)
    }

    /// How many bytes its file has; `None` where it is none.
    #[must_use]
    pub fn file_len(&self) -> Option<u64> {
        let Self::File(path) = self else { return None };
        kept()
            .map_or_else(|| file::facts_at(path), file::facts)
            .ok()
            .filter(file::Facts::is_regular)
            .map(|facts| facts.len)
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    ///
    /// The kernel's; a file that has gone is not made again.
    pub fn append(&self, bytes: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Stderr => {
                let fd = match STATE.stderr_copy.load(Ordering::Relaxed) {
                    0 => file::STDERR,
                    copy => Fd::from_argument(copy.into()),
                };
                file::write_all(fd, bytes)
            }
            Self::File(path) => {
                let open = reach(path)?;
                file::write_all(open.fd(), bytes)
            }
        }
    }

    /// Lets the tools say what they have gathered.
    pub fn last_words(&self, frozen: &Frozen) {
        let Self::File(path) = self else {
            Page::print(frozen, &mut |text| self.append(text));
            return;
        };
        let Ok(open) = reach(path) else { return count(&STATE.lost_lines) };
        let _ = open.lock();
        let at = file::facts(open.fd()).map_or(0, |facts| facts.len);
        let len = Page::print(frozen, &mut |text| file::write_all(open.fd(), text));
        frozen.tree.close((at, len));
    }

    /// Lets them say it again, in place of what was said before; only if that still ends the file. Processes that do
    /// so at the same time wait for each other, so the last to write has the highest counts.
    pub fn update_last_words(&self, frozen: &Frozen) {
        let Self::File(path) = self else { return };
        let Ok(open) = reach(path) else { return count(&STATE.lost_lines) };
        let _ = open.lock();
        let Some((at, len)) = frozen.tree.table() else { return };
        let is_end = file::facts(open.fd()).is_ok_and(|facts| facts.is_regular() && facts.len == at + len);
        if is_end && open.truncate(at).is_ok() {
            frozen.tree.close((at, Page::print(frozen, &mut |text| file::write_all(open.fd(), text))));
        }
    }
}

/// A file that is kept open.
#[derive(Debug)]
pub struct Kept {
    /// Its descriptor; 0 if there is none.
    number: AtomicU32,
    /// Which file it is.
    device: AtomicU64,
    inode: AtomicU64,
}

impl Kept {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { number: AtomicU32::new(0), device: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps a copy of `file` out of the program's way.
fn keep(file: &OpenFile) {
    if let Ok(facts) = file::facts(file.fd())
        && let Ok(copy) = file::duplicate(file.fd(), HIGH)
    {
        let (device, inode) = facts.identity.numbers();
        STATE.kept.device.store(device, Ordering::Relaxed);
        STATE.kept.inode.store(inode, Ordering::Relaxed);
        STATE.kept.number.store(copy.number() as u32, Ordering::Release);
    }
}

/// The file that is kept open, if it is still there.
fn kept() -> Option<Fd> {
    let number = STATE.kept.number.load(Ordering::Acquire);
    let fd = Fd::from_argument(number.into());
    let identity = || (STATE.kept.device.load(Ordering::Relaxed), STATE.kept.inode.load(Ordering::Relaxed));
    let is_it = || file::facts(fd).is_ok_and(|facts| facts.identity.numbers() == identity());
    (number != 0 && is_it()).then_some(fd)
}

/// Opens the file: what is kept, or by its path.
fn reach(path: &CStr) -> Result<OpenFile, Errno> {
    kept().map_or_else(|| OpenFile::open(path, Access::Append), OpenFile::copy_of)
}

/// Gathers text so that a table takes a few writes, not one for each number in it.
struct Page<'w> {
    write: &'w mut dyn FnMut(&[u8]) -> Result<(), Errno>,
    line: Line<4096>,
    len: u64,
}

impl<'w> Page<'w> {
    /// Writes the tools' last words, and what they can't speak for; returns how many bytes that is.
    fn print(frozen: &Frozen, write: &'w mut dyn FnMut(&[u8]) -> Result<(), Errno>) -> u64 {
        let mut page = Self { write, line: Line::new(), len: 0 };
        frozen.tools.finish(&mut page);
        if let Some(common) = &frozen.common {
            // Nothing can go wrong: a line that can't be written is counted.
            let _ = write!(page, "{}", common.tree.natives);
        }
        page.flush();
        page.len
    }

    fn flush(&mut self) {
        let text = self.line.as_bytes();
        if !text.is_empty() && (self.write)(text).is_err() {
            count(&STATE.lost_lines);
        }
        self.len += text.len() as u64;
        self.line = Line::new();
    }
}

impl fmt::Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.line.room() < text.len() {
            self.flush();
        }
        self.line.push(text.as_bytes());
        Ok(())
    }
}
