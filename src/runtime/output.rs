//! Where a tool's words go. Zone: call.
//!
//! No descriptor is kept: a file is opened for each write, so the program can close what it likes and never meets one
//! of ours. Only a program that closes its stderr, as coreutils do at their end, leaves us a copy of it, and one that
//! restricts its calls so that the file can't be opened any more leaves us that file.

use crate::abi::call::Call;
use crate::abi::errno::Errno;
use crate::abi::open::AT_FDCWD;
use crate::abi::signal::Signal;
use crate::abi::sysno;
use crate::hook::chain::Chain;
use crate::runtime::state::{STATE, count};
use crate::runtime::tree::Tree;
use crate::sys::file::{self, Access, Fd, OpenFile};
use crate::sys::line::Line;
use crate::sys::seccomp;
use crate::sys::signal::{self, AllBlocked};
use core::ffi::CStr;
use core::fmt;
use core::mem::ManuallyDrop;
use core::sync::atomic::Ordering;

/// Where a descriptor that must be kept goes if there is room: above the numbers that programs count through.
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
            STATE.kept_output.store(copy.number() as u32, Ordering::Relaxed);
        }
    }

    /// Opens the file for good, if the tools will need it: it may be the last time that it can be opened.
    pub fn keep(&self, tools: &Chain<'_>) {
        if let Self::File(path) = self
            && !tools.interest().is_empty()
            && STATE.kept_output.load(Ordering::Relaxed) == 0
            && let Ok(open) = OpenFile::open(path, Access::Append)
            && let Ok(copy) = file::duplicate(open.fd(), HIGH)
        {
            STATE.kept_output.store(copy.number() as u32, Ordering::Relaxed);
        }
    }

    /// Whether the program's filters would keep the file from being opened again and written to.
    #[must_use]
    pub fn is_needed_open(&self) -> bool {
        const NEEDED: [u32; 6] =
            [sysno::OPENAT, sysno::WRITE, sysno::CLOSE, sysno::FSTAT, sysno::FLOCK, sysno::FTRUNCATE];
        let Self::File(path) = self else { return false };
        let args = [AT_FDCWD, path.as_ptr().addr() as u64, Access::Append.flags(), 0o666, 0, 0];
        !NEEDED.iter().all(|&nr| seccomp::allows(nr, args))
    }

    /// Closes what [`Self::keep`] has left open.
    pub fn let_go(&self) {
        if let Self::File(_) = self
            && let kept @ 1.. = STATE.kept_output.swap(0, Ordering::Relaxed)
        {
            drop(OpenFile::inherited(kept));
        }
    }

    /// How many bytes its file has; `None` where it is none.
    #[must_use]
    pub fn file_len(&self) -> Option<u64> {
        let Self::File(path) = self else { return None };
        file::facts_at(path).ok().filter(file::Facts::is_regular).map(|facts| facts.len)
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    ///
    /// The kernel's; a file that has gone is not made again.
    pub fn append(&self, bytes: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Stderr => {
                let fd = match STATE.kept_output.load(Ordering::Relaxed) {
                    0 => file::STDERR,
                    copy => Fd::from_argument(copy.into()),
                };
                write_quietly(fd, bytes)
            }
            Self::File(path) => write_quietly(Sink::of(path)?.file().fd(), bytes),
        }
    }

    /// Lets the tools say what they have gathered.
    pub fn last_words(&self, tools: &Chain<'_>, tree: &Tree) {
        let Self::File(path) = self else {
            Page::print(tools, &mut |text| self.append(text));
            return;
        };
        let Ok(sink) = Sink::of(path) else { return count(&STATE.lost_lines) };
        let open = sink.file();
        let _ = open.lock();
        let at = file::facts(open.fd()).map_or(0, |facts| facts.len);
        let len = Page::print(tools, &mut |text| write_quietly(open.fd(), text));
        tree.close((at, len));
    }

    /// Lets them say it again, in place of what was said before; only if that still ends the file. Processes that do
    /// so at the same time wait for each other, so the last to write has the highest counts.
    pub fn update_last_words(&self, tools: &Chain<'_>, tree: &Tree) {
        let Self::File(path) = self else { return };
        let Ok(sink) = Sink::of(path) else { return count(&STATE.lost_lines) };
        let open = sink.file();
        let _ = open.lock();
        let Some((at, len)) = tree.table() else { return };
        let is_end = file::facts(open.fd()).is_ok_and(|facts| facts.is_regular() && facts.len == at + len);
        if is_end && open.truncate(at).is_ok() {
            tree.close((at, Page::print(tools, &mut |text| write_quietly(open.fd(), text))));
        }
    }
}

/// Writes what the program itself would not have written: a reader that has gone and a limit on the size of files
/// (RLIMIT_FSIZE) must not end it by their signals.
fn write_quietly(fd: Fd, bytes: &[u8]) -> Result<(), Errno> {
    let _blocked = AllBlocked::new();
    let written = file::write_all(fd, bytes);
    match written {
        Err(Errno::EPIPE) => signal::discard(Signal::SIGPIPE),
        Err(Errno::EFBIG) => signal::discard(Signal::SIGXFSZ),
        _ => {}
    }
    written
}

/// The tools' file, open.
enum Sink {
    /// For this moment.
    Opened(OpenFile),
    /// For as long as the process lives.
    Kept(ManuallyDrop<OpenFile>),
}

impl Sink {
    fn of(path: &CStr) -> Result<Self, Errno> {
        let kept = STATE.kept_output.load(Ordering::Relaxed);
        if kept == 0 {
            return OpenFile::open(path, Access::Append).map(Self::Opened);
        }
        let kept = ManuallyDrop::new(OpenFile::inherited(kept));
        // The program may have closed it and opened something of its own there.
        let (open, named) = (file::facts(kept.fd()), file::facts_at(path));
        match open.ok().zip(named.ok()) {
            Some((open, named)) if open.identity != named.identity => Err(Errno::EBADF),
            _ => Ok(Self::Kept(kept)),
        }
    }

    fn file(&self) -> &OpenFile {
        match self {
            Self::Opened(file) => file,
            Self::Kept(file) => file,
        }
    }
}

/// Gathers text so that a table takes a few writes, not one for each number in it.
struct Page<'w> {
    write: &'w mut dyn FnMut(&[u8]) -> Result<(), Errno>,
    line: Line<4096>,
    len: u64,
}

impl<'w> Page<'w> {
    /// Writes the tools' last words; returns how many bytes they are.
    fn print(tools: &Chain<'_>, write: &'w mut dyn FnMut(&[u8]) -> Result<(), Errno>) -> u64 {
        let mut page = Self { write, line: Line::new(), len: 0 };
        tools.finish(&mut page);
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
