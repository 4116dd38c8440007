//! Calls that would show the loader where the program expects itself. Zone: call.
//!
//! The kernel's link `/proc/self/exe`, and that of every other loaded process, leads to the loader's file. It could be set (`PR_SET_MM_MAP`, `exe_fd`) only by a
//! privileged process that maps nothing of that file any more (kernel/sys.c, `prctl_set_mm_exe_file`), and the loader
//! could not find itself any more for what the program execs. So calls are made as the program asked, with the kernel's
//! own errors, and those that succeeded because of the loader's file are made again with the program's
//! ([`filter`](crate::runtime::calls::exit_filter) says which come here). Whether a path leads through the link the kernel
//! itself is asked, so that every spelling counts.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::open::{AT_FDCWD, PATH_MAX};
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::runtime::calls::mapped_program::{PROC_PATH_LEN, ProgramFile};
use crate::runtime::session::Session;
use crate::sys::fd::Fd;
use crate::sys::file::{self, OpenFile};
use crate::sys::guest_memory;
use crate::sys::line::Line;
use core::ffi::CStr;
use core::fmt::Write;

/// The outcome that a call that has returned should have had, if it was about the program's own file.
#[must_use]
pub(crate) fn corrected(call: &Call, outcome: Outcome, session: &Session) -> Outcome {
    match call.nr {
        sysno::READLINK => read_link(call, 0, outcome, session),
        sysno::READLINKAT => read_link(call, 1, outcome, session),
        sysno::OPEN => open(call, 0, outcome, session),
        sysno::OPENAT | sysno::OPENAT2 => open(call, 1, outcome, session),
        sysno::ACCESS | sysno::STAT => ask(call, 0, outcome, session),
        _ => ask(call, 1, outcome, session),
    }
}

/// The program's file that `path`, from `directory` on (`AT_FDCWD` or a descriptor), should lead to, where it names the
/// link to the program of a loaded process, `/proc/PID/exe`, in any spelling.
#[must_use]
pub(crate) fn program_behind(directory: u64, path: &CStr, session: &Session) -> Option<ProgramFile> {
    if path.is_empty() {
        return program_of(Fd::from_argument(directory), session);
    }
    if path.to_bytes().rsplit(|&byte| byte == b'/').next() != Some(b"exe") {
        return None;
    }
    program_of(OpenFile::open_link(directory, path).ok()?.fd(), session)
}

/// The program's file that an open link should lead to.
fn program_of(link: Fd, session: &Session) -> Option<ProgramFile> {
    if !file::is_of_proc(link) {
        return None;
    }
    let mut spelling = [0; PROC_PATH_LEN];
    let name = name_of(link, &mut spelling)?;
    let owner = owner_in(name)?;
    let mut path = Line::<{ PROC_PATH_LEN + 1 }>::new();
    path.push(name);
    path.push(b"\0");
    let facts = file::facts_at(CStr::from_bytes_with_nul(path.as_bytes()).ok()?);
    let leads_elsewhere = facts.is_ok_and(|facts| session.own != Some(facts.identity));
    if is_own(owner) {
        // As an interpreter the loader is not what the kernel's link leads to.
        return (!leads_elsewhere).then(|| own_program(session));
    }
    if leads_elsewhere || facts.is_err() {
        return None;
    }
    told_program(name.strip_suffix(b"/exe")?, session)
}

/// Whether it is a thread of this process, by the numbers of the file system itself, which may be those of another
/// namespace.
fn is_own(owner: u32) -> bool {
    let mut thread = Line::<64>::new();
    let _ = write!(thread, "/proc/self/task/{owner}\0");
    CStr::from_bytes_with_nul(thread.as_bytes()).is_ok_and(|thread| file::facts_at(thread).is_ok())
}

/// The program's file of the process with this directory in `/proc`; `None` where the kernel could not be told that the
/// loader's is not.
fn told_program(directory: &[u8], session: &Session) -> Option<ProgramFile> {
    ProgramFile::of(directory).filter(|file| file.shown() != session.loader.to_bytes())
}

/// The running program's file; as it was when it started, should it have left no trace of itself in memory.
fn own_program(session: &Session) -> ProgramFile {
    told_program(b"/proc/self", session).unwrap_or_else(|| ProgramFile::at(session.program.to_bytes()))
}

/// The thread or process in `…/ID/exe`.
fn owner_in(path: &[u8]) -> Option<u32> {
    let owner = path.strip_suffix(b"/exe")?.rsplit(|&byte| byte == b'/').next()?;
    core::str::from_utf8(owner).ok()?.parse().ok()
}

/// What the kernel calls an open file.
fn name_of(fd: Fd, buffer: &mut [u8]) -> Option<&[u8]> {
    let mut link = Line::<32>::new();
    let _ = write!(link, "/proc/self/fd/{}\0", fd.number());
    file::read_link(CStr::from_bytes_with_nul(link.as_bytes()).ok()?, buffer).ok()
}

/// The program's file that the path in argument `index` of `call` should lead to.
fn program_meant(call: &Call, index: usize, session: &Session) -> Option<ProgramFile> {
    let argument = |index: usize| call.args.get(index).copied().unwrap_or_default();
    let directory = if index == 0 { AT_FDCWD } else { argument(0) };
    let mut bytes = [0; PATH_MAX];
    let len = guest_memory::read_memory(GuestAddr(argument(index)), &mut bytes).unwrap_or(0);
    let path = CStr::from_bytes_until_nul(bytes.get(..len).unwrap_or_default()).ok()?;
    program_behind(directory, path, session)
}

/// Makes `call` again with the program's path as argument `index`.
fn repeat(call: &Call, index: usize, program: &ProgramFile) -> Outcome {
    let mut args = call.args;
    if let Some(path) = args.get_mut(index) {
        *path = program.path().as_ptr().expose_provenance() as u64;
    }
    // SAFETY: it is the program's own call, which has just been made, about another file.
    match unsafe { crate::sys::call(call.nr, args) } {
        Ok(value) => Outcome(value),
        Err(errno) => Outcome::failure(errno),
    }
}

/// `stat` and `access` and what goes with them.
fn ask(call: &Call, index: usize, outcome: Outcome, session: &Session) -> Outcome {
    program_meant(call, index, session).map_or(outcome, |program| repeat(call, index, &program))
}

/// `open` and what goes with it. The program's descriptor gets the number that the loader's file had.
fn open(call: &Call, index: usize, outcome: Outcome, session: &Session) -> Outcome {
    let opened = Fd::from_argument(outcome.0);
    let is_own_file = || file::facts(opened).ok().map(|facts| facts.identity) == session.own;
    let failed = outcome.errno().is_some();
    if session.own.is_none() || !(failed || is_own_file()) {
        return outcome;
    }
    let Some(program) = program_meant(call, index, session) else { return outcome };
    if !failed {
        drop(OpenFile::inherited(outcome.0 as u32));
    }
    repeat(call, index, &program)
}

/// `readlink` and `readlinkat` (fs/stat.c, `do_readlinkat`).
fn read_link(call: &Call, index: usize, outcome: Outcome, session: &Session) -> Outcome {
    if outcome.errno().is_some() {
        return outcome;
    }
    let Some(program) = program_meant(call, index, session) else { return outcome };
    let argument = |index: usize| call.args.get(index).copied().unwrap_or_default();
    let written = usize::try_from(outcome.0).unwrap_or(0);
    let room = usize::try_from((argument(index + 2) as u32).cast_signed()).unwrap_or(0);
    match answer(program.shown(), GuestAddr(argument(index + 1)), written, room) {
        Ok(len) => Outcome(len as u64),
        Err(errno) => Outcome::failure(errno),
    }
}

/// Puts `target` where the kernel has put the loader's path. Behind it are zeros: programs read into zeroed buffers and
/// do without an end of their own.
fn answer(target: &[u8], buffer: GuestAddr, written: usize, room: usize) -> Result<usize, Errno> {
    let zeros = [0_u8; PATH_MAX];
    let shown = target.get(..target.len().min(room)).unwrap_or_default();
    let rest = zeros.get(..written.saturating_sub(shown.len())).unwrap_or_default();
    let behind = buffer.wrapping_add(shown.len() as u64);
    if guest_memory::write_memory(buffer, shown)? != shown.len()
        || guest_memory::write_memory(behind, rest).is_err()
    {
        return Err(Errno::EFAULT);
    }
    Ok(shown.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_whose_link_it_is() {
        assert_eq!(owner_in(b"/proc/123/exe"), Some(123));
        assert_eq!(owner_in(b"/mnt/proc/123/task/124/exe"), Some(124));
        for other in [&b"/proc/self/maps"[..], b"/proc/exe", b"/proc//exe", b"/proc/12a/exe", b"exe", b""] {
            assert_eq!(owner_in(other), None, "{other:?}");
        }
    }
}
