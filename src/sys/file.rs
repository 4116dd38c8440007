//! Files, for the moments in which the loader needs one: no descriptor outlives the call that opened it. Zone: call.

use crate::abi::errno::Errno;
use crate::abi::open::Stat;
use crate::abi::sysno;
use crate::sys::fd::Fd;
use crate::sys::{call, errand};
use core::ffi::CStr;
use core::mem::MaybeUninit;

/// The standard output stream.
pub(crate) const STDOUT: Fd = Fd(1);

/// The standard error stream.
pub(crate) const STDERR: Fd = Fd(2);

/// A descriptor that closes itself.
#[derive(Debug)]
pub(crate) struct OpenFile(Fd);

/// Where a path starts, and how it is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'p> {
    /// A directory's descriptor or `AT_FDCWD`.
    pub directory: u64,
    /// The path.
    pub path: &'p CStr,
    /// `AT_EMPTY_PATH` and `AT_SYMLINK_NOFOLLOW`.
    pub flags: u64,
}

impl<'p> Place<'p> {
    /// A path from the working directory on, links followed.
    #[must_use]
    pub(crate) const fn of(path: &'p CStr) -> Self {
        Self { directory: crate::abi::open::AT_FDCWD, path, flags: 0 }
    }
}

/// Copies a descriptor to the lowest free number from `lowest` on, or to any if there is none; it does not survive an
/// exec.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn duplicate(fd: Fd, lowest: u32) -> Result<Fd, Errno> {
    const F_DUPFD_CLOEXEC: u64 = 1030;
    let to = |from: u32| [fd.number(), F_DUPFD_CLOEXEC, from.into(), 0, 0, 0];
    // SAFETY: it makes a descriptor, and changes none.
    let copy = unsafe { call(sysno::FCNTL, to(lowest)) };
    // SAFETY: as above.
    let copy = copy.or_else(|_| unsafe { errand::call_unlimited(sysno::FCNTL, to(lowest)) });
    // SAFETY: as above.
    copy.or_else(|_| unsafe { call(sysno::FCNTL, to(0)) }).map(|copy| Fd(copy as u32))
}

/// Makes a call that makes a descriptor, whether or not the process may have one more.
///
/// # Safety
///
/// As for [`call`].
unsafe fn make_descriptor(nr: u32, args: [u64; 6]) -> Result<u64, Errno> {
    // SAFETY: as the caller vouches.
    match unsafe { call(nr, args) } {
        // SAFETY: as the caller vouches.
        Err(Errno::EMFILE) => unsafe { errand::call_unlimited(nr, args) },
        other => other,
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// Appending; the file must exist.
    Append,
    /// Writing from the start, made or emptied as needed.
    Create,
}

impl Access {
    /// The `O_*` flags that this takes.
    #[must_use]
    pub(crate) const fn flags(self) -> u64 {
        use crate::abi::open;
        let bits = match self {
            Self::Read => open::RDONLY,
            Self::ReadWrite => open::RDWR,
            Self::Append => open::WRONLY | open::APPEND,
            Self::Create => open::WRONLY | open::CREAT | open::TRUNC,
        };
        (bits | open::CLOEXEC) as u64
    }
}

impl OpenFile {
    /// Opens `path` relative to the working directory.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn open(path: &CStr, access: Access) -> Result<Self, Errno> {
        let args = [crate::abi::open::AT_FDCWD, path.as_ptr().addr() as u64, access.flags(), 0o666, 0, 0];
        // SAFETY: the kernel reads the path, which is a C string, and makes a new descriptor.
        let fd = unsafe { make_descriptor(sysno::OPENAT, args) }?;
        Ok(Self(Fd(fd as u32)))
    }

    /// Opens what `path` names from `directory` on (`AT_FDCWD` or a descriptor), the link itself where it ends in one,
    /// neither for reading nor for writing.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn open_link(directory: u64, path: &CStr) -> Result<Self, Errno> {
        use crate::abi::open;
        let flags = open::PATH | open::NOFOLLOW | open::CLOEXEC;
        let args = [directory, path.as_ptr().addr() as u64, flags.into(), 0, 0, 0];
        // SAFETY: the kernel reads the path, which is a C string, and makes a new descriptor.
        let fd = unsafe { make_descriptor(sysno::OPENAT, args) }?;
        Ok(Self(Fd(fd as u32)))
    }

    /// Opens a file that is to be executed, for reading; never waits and never takes a terminal.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn open_program(place: &Place<'_>) -> Result<Self, Errno> {
        use crate::abi::open;
        let fixed = open::RDONLY | open::CLOEXEC | open::NONBLOCK | open::NOCTTY;
        let links = if place.flags & open::AT_SYMLINK_NOFOLLOW != 0 { open::NOFOLLOW } else { 0 };
        let path = place.path.as_ptr().addr() as u64;
        // SAFETY: the kernel reads the path, which is a C string, and makes a new descriptor.
        let fd = unsafe {
            make_descriptor(sysno::OPENAT, [place.directory, path, (fixed | links).into(), 0, 0, 0])
        }?;
        Ok(Self(Fd(fd as u32)))
    }

    /// Takes over a descriptor that was left open for this purpose.
    #[must_use]
    pub(crate) const fn inherited(number: u32) -> Self {
        Self(Fd(number))
    }

    /// Takes over a copy of `fd`.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn copy_of(fd: Fd) -> Result<Self, Errno> {
        duplicate(fd, 0).map(Self)
    }

    /// Lets it survive an exec.
    ///
    /// # Errors
    ///
    /// None for an open descriptor.
    pub(crate) fn keep_at_exec(&self) -> Result<(), Errno> {
        // SAFETY: it changes a descriptor of ours.
        unsafe { call(sysno::FCNTL, [self.0.number(), crate::abi::open::SETFD, 0, 0, 0, 0]) }.map(drop)
    }

    /// Waits until nobody else holds the file's lock, and holds it until closed.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn lock(&self) -> Result<(), Errno> {
        // SAFETY: it touches no memory.
        unsafe { call(sysno::FLOCK, [self.0.number(), crate::abi::open::LOCK_EX, 0, 0, 0, 0]) }.map(drop)
    }

    /// Gives the file's lock back.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn unlock(&self) -> Result<(), Errno> {
        // SAFETY: it touches no memory.
        unsafe { call(sysno::FLOCK, [self.0.number(), crate::abi::open::LOCK_UN, 0, 0, 0, 0]) }.map(drop)
    }

    /// Cuts the file off.
    ///
    /// # Errors
    ///
    /// The kernel's; `EINVAL` for what has no length.
    pub(crate) fn truncate(&self, len: u64) -> Result<(), Errno> {
        // SAFETY: what the file is, is the caller's business; it touches no memory.
        unsafe { call(sysno::FTRUNCATE, [self.0.number(), len, 0, 0, 0, 0]) }.map(drop)
    }

    /// Gives it these permission bits.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        // SAFETY: it touches no memory.
        unsafe { call(sysno::FCHMOD, [self.0.number(), mode.into(), 0, 0, 0, 0]) }.map(drop)
    }

    /// The descriptor.
    #[must_use]
    pub(crate) const fn fd(&self) -> Fd {
        self.0
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours alone.
        let _ = unsafe { call(sysno::CLOSE, [self.0.number(), 0, 0, 0, 0, 0]) };
    }
}

/// Gives a file another name, in place of what has it.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn rename(from: &CStr, to: &CStr) -> Result<(), Errno> {
    let (from, to) = (from.as_ptr().addr() as u64, to.as_ptr().addr() as u64);
    // SAFETY: the kernel reads two C strings.
    unsafe { call(sysno::RENAME, [from, to, 0, 0, 0, 0]) }.map(drop)
}

/// Takes a file's name away; one that has none is not an error of ours.
pub(crate) fn remove(path: &CStr) {
    // SAFETY: the kernel reads a C string.
    let _ = unsafe { call(sysno::UNLINK, [path.as_ptr().addr() as u64, 0, 0, 0, 0, 0]) };
}

/// What the loader asks about a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// File type and permission bits (`st_mode`).
    pub mode: u32,
    /// Length in bytes.
    pub len: u64,
    /// The owner's user id.
    pub user: u32,
    /// The group id.
    pub group: u32,
    /// Which file it is.
    pub identity: Identity,
}

/// What tells a file from all others, by whatever name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The numbers of its device and inode.
    #[must_use]
    pub(crate) const fn numbers(self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// The number in its file system.
    #[must_use]
    pub(crate) const fn inode(self) -> u64 {
        self.inode
    }
}

impl Facts {
    /// Whether it is a regular file.
    #[must_use]
    pub(crate) const fn is_regular(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}

/// Asks about an open file.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn facts(fd: Fd) -> Result<Facts, Errno> {
    ask_facts(sysno::FSTAT, |stat| [fd.number(), stat, 0, 0, 0, 0])
}

/// Asks about the file at `path`, links followed.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn facts_at(path: &CStr) -> Result<Facts, Errno> {
    ask_facts(sysno::STAT, |stat| [path.as_ptr().addr() as u64, stat, 0, 0, 0, 0])
}

fn ask_facts(nr: u32, args: impl Fn(u64) -> [u64; 6]) -> Result<Facts, Errno> {
    let mut stat = MaybeUninit::<Stat>::uninit();
    // SAFETY: the kernel fills the whole of `stat`, whose type is its own, and only reads what else is named.
    unsafe { call(nr, args(stat.as_mut_ptr().addr() as u64)) }?;
    // SAFETY: the call succeeded, so it is filled.
    let stat = unsafe { stat.assume_init() };
    Ok(Facts {
        mode: stat.st_mode,
        len: stat.st_size.cast_unsigned(),
        user: stat.st_uid,
        group: stat.st_gid,
        identity: Identity { device: stat.st_dev, inode: stat.st_ino },
    })
}

/// Whether the descriptor is closed by an exec.
#[must_use]
pub(crate) fn closes_at_exec(fd: Fd) -> bool {
    use crate::abi::open::{FD_CLOEXEC, GETFD};
    // SAFETY: it touches no memory.
    let flags = unsafe { call(sysno::FCNTL, [fd.number(), GETFD, 0, 0, 0, 0]) };
    flags.is_ok_and(|flags| flags & FD_CLOEXEC != 0)
}

/// Whether the file grants capabilities (man 7 capabilities, "File capabilities").
#[must_use]
pub(crate) fn grants_capabilities(fd: Fd) -> bool {
    let name = c"security.capability".as_ptr().addr() as u64;
    // SAFETY: the kernel reads the name, and with a length of 0 writes nothing.
    unsafe { call(sysno::FGETXATTR, [fd.number(), name, 0, 0, 0, 0]) }.is_ok_and(|len| len > 0)
}

/// Whether set-id bits count where the file lies.
#[must_use]
pub(crate) fn honours_set_id(fd: Fd) -> bool {
    use crate::abi::open::ST_NOSUID;
    file_system(fd).is_none_or(|facts| facts.f_flags.cast_unsigned() & ST_NOSUID == 0)
}

/// Whether the file is one of the kernel's own about processes.
#[must_use]
pub(crate) fn is_of_proc(fd: Fd) -> bool {
    use crate::abi::open::PROC_SUPER_MAGIC;
    file_system(fd).is_some_and(|facts| facts.f_type == PROC_SUPER_MAGIC)
}

/// What the kernel says about the file system of an open file.
fn file_system(fd: Fd) -> Option<crate::abi::open::StatFs> {
    let mut facts = MaybeUninit::<crate::abi::open::StatFs>::uninit();
    // SAFETY: the kernel fills `facts`, whose type is its own.
    unsafe { call(sysno::FSTATFS, [fd.number(), facts.as_mut_ptr().addr() as u64, 0, 0, 0, 0]) }.ok()?;
    // SAFETY: the call succeeded, so it is filled.
    Some(unsafe { facts.assume_init() })
}

/// Whether the caller may execute the file at `place` (effective ids, as execve checks).
///
/// # Errors
///
/// `EACCES` if not, and the kernel's others.
pub(crate) fn may_execute(place: &Place<'_>) -> Result<(), Errno> {
    use crate::abi::open;
    let path = place.path.as_ptr().addr() as u64;
    let args = [place.directory, path, open::X_OK, open::AT_EACCESS | place.flags, 0, 0];
    // SAFETY: the kernel only reads the path.
    match unsafe { call(sysno::FACCESSAT2, args) } {
        Err(Errno::ENOSYS) => {
            let args = [place.directory, path, open::X_OK, 0, 0, 0];
            // SAFETY: the kernel only reads the path.
            unsafe { call(sysno::FACCESSAT, args) }.map(drop)
        }
        other => other.map(drop),
    }
}

/// Writes `bytes` once; returns how many were taken.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn write(fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
    let args = [fd.number(), bytes.as_ptr().addr() as u64, bytes.len() as u64, 0, 0, 0];
    // SAFETY: the kernel only reads `bytes`.
    unsafe { call(sysno::WRITE, args) }.map(|len| len as usize)
}

/// Writes all of `bytes`.
///
/// # Errors
///
/// The kernel's first.
pub(crate) fn write_all(fd: Fd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(len) => bytes = bytes.get(len..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Writes `bytes` at `offset` of the file.
///
/// # Errors
///
/// The kernel's; `EIO` for a short write.
pub(crate) fn write_at(fd: Fd, bytes: &[u8], offset: u64) -> Result<(), Errno> {
    let args = [fd.number(), bytes.as_ptr().addr() as u64, bytes.len() as u64, offset, 0, 0];
    // SAFETY: the kernel only reads `bytes`; what the file is, is the caller's business.
    let len = unsafe { call(sysno::PWRITE64, args) }?;
    if len == bytes.len() as u64 { Ok(()) } else { Err(Errno::EIO) }
}

/// Reads once into `into`; returns how many bytes came, 0 at the end.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn read(fd: Fd, into: &mut [u8]) -> Result<usize, Errno> {
    let args = [fd.number(), into.as_mut_ptr().addr() as u64, into.len() as u64, 0, 0, 0];
    // SAFETY: the kernel writes into `into` only.
    unsafe { call(sysno::READ, args) }.map(|len| len as usize)
}

/// Reads the target of a symbolic link into `into`.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn read_link<'b>(path: &CStr, into: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let args = [path.as_ptr().addr() as u64, into.as_mut_ptr().addr() as u64, into.len() as u64, 0, 0, 0];
    // SAFETY: the kernel reads the path and writes into `into` only.
    let len = unsafe { call(sysno::READLINK, args) }?;
    Ok(into.get(..len as usize).unwrap_or_default())
}

/// The absolute path of the working directory.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn working_directory(into: &mut [u8]) -> Result<&[u8], Errno> {
    let args = [into.as_mut_ptr().addr() as u64, into.len() as u64, 0, 0, 0, 0];
    // SAFETY: the kernel writes into `into` only.
    let len = unsafe { call(sysno::GETCWD, args) }?;
    // The length counts the terminating NUL.
    Ok(into.get(..(len as usize).saturating_sub(1)).unwrap_or_default())
}
