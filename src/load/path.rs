//! From the name on the command line to a file that may be executed. Zone: load.

use crate::abi::errno::Errno;
use crate::sys::file::{self, Access, Facts, OpenFile, Place};
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

/// Where shells look when `PATH` is not set (`confstr(_CS_PATH)` of glibc).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Finds `name` as `execvp` does: as it is if it holds a slash, else along `path`.
///
/// # Errors
///
/// `ENOENT` if there is none; `EACCES` if there were only files that may not be executed.
pub(crate) fn find(name: &CStr, path: Option<&[u8]>) -> Result<CString, Errno> {
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    if name.to_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let mut denied = false;
    for directory in path.unwrap_or(DEFAULT_PATH).split(|&byte| byte == b':') {
        let mut candidate = Vec::with_capacity(directory.len() + name.count_bytes() + 2);
        candidate.extend_from_slice(directory);
        if !directory.is_empty() {
            candidate.push(b'/');
        }
        candidate.extend_from_slice(name.to_bytes());
        let Ok(candidate) = CString::new(candidate) else { continue };
        match open(&candidate) {
            Ok(_) => return Ok(candidate),
            Err(Errno::EACCES) => denied = true,
            Err(_) => {}
        }
    }
    Err(if denied { Errno::EACCES } else { Errno::ENOENT })
}

/// Opens a file that is to be executed, with the checks of `execve` (fs/exec.c, `do_open_execat`).
///
/// # Errors
///
/// `EACCES` for anything but a regular file, and without the right to execute; the kernel's others.
pub(crate) fn open(path: &CStr) -> Result<OpenFile, Errno> {
    file::may_execute(&Place::of(path))?;
    let open = OpenFile::open(path, Access::Read)?;
    let facts: Facts = file::facts(open.fd())?;
    if facts.is_regular() { Ok(open) } else { Err(Errno::EACCES) }
}
