//! Where a tool's words go. Zone: call.
//!
//! No descriptor is kept: a file is opened for each write, so the program can close what it likes and never meets one
//! of ours. Only a program that closes its stderr, as coreutils do at their end, leaves us a copy of it; and one that
//! restricts its calls, changes its root or gives up rights, an open file, since it may not be opened again or its path
//! may not lead there any more. Such a file is used after a look at which one it is, for the program may have put its
//! own in that place.

use crate::abi::call::Call;
use crate::abi::errno::Errno;
use crate::abi::open::AT_FDCWD;
use crate::abi::signal::Signal;
use crate::abi::sysno;
use crate::sys::fd::Fd;
use crate::sys::file::{self, Access, OpenFile};
use crate::sys::line::Line;
use crate::sys::seccomp;
use crate::sys::signal::{self, AllBlocked};
use core::ffi::CStr;
use core::fmt;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Where a descriptor that must be kept goes if there is room: above the numbers that programs count through.
const HIGH: u32 = 500;

/// The process's stderr, or a file by its absolute path.
#[derive(Debug)]
pub(crate) enum Output {
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
    pub(crate) fn create(path: &CStr) -> Result<(), Errno> {
        OpenFile::open(path, Access::Create).map(drop)
    }

    /// Before the program closes a descriptor: keeps a copy of its stderr if the tools still need it.
    pub(crate) fn before_close(&self, call: &Call) {
        if matches!(self, Self::Stderr) && Fd::from_argument(call.args[0]) == file::STDERR {
            WAY.kept.take(file::STDERR);
        }
    }

    /// Opens the file for good: it may be the last time that it can be opened.
    pub(crate) fn keep(&self) {
        if let Self::File(path) = self
            && WAY.kept.get().is_none()
            && let Ok(open) = OpenFile::open(path, Access::Append)
        {
            WAY.kept.take(open.fd());
        }
    }

    /// Whether the program's filters would keep the file from being opened again and written to.
    #[must_use]
    pub(crate) fn is_needed_open(&self) -> bool {
        const NEEDED: [u32; 6] =
            [sysno::OPENAT, sysno::WRITE, sysno::CLOSE, sysno::FSTAT, sysno::FLOCK, sysno::FTRUNCATE];
        let Self::File(path) = self else { return false };
        let args = [AT_FDCWD, path.as_ptr().addr() as u64, Access::Append.flags(), 0o666, 0, 0];
        !NEEDED.iter().all(|&nr| seccomp::allows(nr, args))
    }

    /// Closes what [`Self::keep`] has left open, where the file can be opened again.
    pub(crate) fn let_go(&self) {
        if let Self::File(_) = self
            && !WAY.kept.for_good.load(Ordering::Relaxed)
        {
            WAY.kept.close();
        }
    }

    /// From now on the process may not reach the file: what is kept open stays so.
    pub(crate) fn stay_open() {
        WAY.kept.for_good.store(true, Ordering::Relaxed);
    }

    /// Takes over what the loader that exec'd this one has kept open.
    pub(crate) fn inherit(file: &OpenFile) {
        Self::stay_open();
        WAY.kept.take(file.fd());
    }

    /// The file that is kept open, for an exec'd loader to inherit.
    #[must_use]
    pub(crate) fn inheritance(&self) -> Option<OpenFile> {
        let Self::File(_) = self else { return None };
        let copy = OpenFile::copy_of(WAY.kept.get()?).ok()?;
        copy.keep_at_exec().is_ok().then_some(copy)
    }

    /// How many bytes its file has; `None` where it is none.
    #[must_use]
    pub(crate) fn file_len(&self) -> Option<u64> {
        let Self::File(path) = self else { return None };
        let facts = WAY.kept.get().map_or_else(|| file::facts_at(path), file::facts);
        facts.ok().filter(file::Facts::is_regular).map(|facts| facts.len)
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    ///
    /// The kernel's; a file that has gone is not made again.
    pub(crate) fn append(&self, bytes: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Stderr => write_quietly(WAY.kept.get().unwrap_or(file::STDERR), bytes),
            Self::File(path) => write_quietly(Sink::of(path)?.file().fd(), bytes),
        }
    }
}

/// Does `act` while no other process does so to the tools' file.
pub(super) fn while_locked(path: &CStr, act: impl FnOnce(&OpenFile)) {
    let Ok(sink) = Sink::of(path) else { return lose_line() };
    let open = sink.file();
    let _ = open.lock();
    act(open);
    let _ = open.unlock(); // what stays open, here or in a child, would stay locked
}

/// Writes what the program itself would not have written: a reader that has gone and a limit on the size of files
/// (RLIMIT_FSIZE) must not end it by their signals.
pub(super) fn write_quietly(fd: Fd, bytes: &[u8]) -> Result<(), Errno> {
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
        match WAY.kept.get() {
            Some(kept) => Ok(Self::Kept(ManuallyDrop::new(OpenFile::inherited(kept.number() as u32)))),
            None => OpenFile::open(path, Access::Append).map(Self::Opened),
        }
    }

    fn file(&self) -> &OpenFile {
        match self {
            Self::Opened(file) => file,
            Self::Kept(file) => file,
        }
    }
}

/// A file that is kept open.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Its descriptor; 0 if there is none.
    number: AtomicU32,
    /// Which file it is.
    device: AtomicU64,
    inode: AtomicU64,
    /// Whether its path may not lead to it any more.
    for_good: AtomicBool,
}

impl Kept {
    /// None.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            number: AtomicU32::new(0),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
            for_good: AtomicBool::new(false),
        }
    }

    /// Keeps a copy of `fd` out of the program's way.
    fn take(&self, fd: Fd) {
        if let Ok(facts) = file::facts(fd)
            && let Ok(copy) = file::duplicate(fd, HIGH)
        {
            let (device, inode) = facts.identity.numbers();
            self.device.store(device, Ordering::Relaxed);
            self.inode.store(inode, Ordering::Relaxed);
            self.number.store(copy.number() as u32, Ordering::Release);
        }
    }

    /// Its descriptor, if the program has not closed it. Where a filter of the program's forbids to look, it is
    /// taken to be there.
    fn get(&self) -> Option<Fd> {
        let number = self.number.load(Ordering::Acquire);
        if number == 0 {
            return None;
        }
        let fd = Fd::from_argument(number.into());
        let identity = (self.device.load(Ordering::Relaxed), self.inode.load(Ordering::Relaxed));
        let is_it = match file::facts(fd) {
            Ok(facts) => facts.identity.numbers() == identity,
            Err(errno) => errno == Errno::EPERM,
        };
        is_it.then_some(fd)
    }

    /// Closes it, if it is there.
    fn close(&self) {
        if let Some(fd) = self.get() {
            self.number.store(0, Ordering::Relaxed);
            drop(OpenFile::inherited(fd.number() as u32));
        }
    }
}

/// What has become of the way out for words.
struct Way {
    /// The stderr that the program has closed, or the tools' file where it may not be opened again.
    kept: Kept,
    /// Lines that could not be written.
    lost_lines: AtomicU64,
}

/// That of this process. A fork keeps it.
static WAY: Way = Way { kept: Kept::new(), lost_lines: AtomicU64::new(0) };

/// Counts a line that could not be written.
pub(crate) fn lose_line() {
    WAY.lost_lines.fetch_add(1, Ordering::Relaxed);
}

impl Default for Kept {
    fn default() -> Self {
        Self::new()
    }
}

/// Gathers text so that a table takes a few writes, not one for each number in it.
pub(super) struct Page<'w> {
    write: &'w mut dyn FnMut(&[u8]) -> Result<(), Errno>,
    line: Line<4096>,
    len: u64,
}

impl<'w> Page<'w> {
    /// Writes what `print` prints; returns how many bytes that is.
    pub(super) fn fill(
        write: &'w mut dyn FnMut(&[u8]) -> Result<(), Errno>,
        print: impl FnOnce(&mut Self),
    ) -> u64 {
        let mut page = Self { write, line: Line::new(), len: 0 };
        print(&mut page);
        page.flush();
        page.len
    }

    fn flush(&mut self) {
        let text = self.line.as_bytes();
        if !text.is_empty() && (self.write)(text).is_err() {
            lose_line();
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
