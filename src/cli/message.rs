//! What the loader itself says, and the statuses that it ends with. Zone: load.

use crate::options::UsageError;
use crate::sys::file;
use crate::sys::ids::{self, Status};
use crate::sys::line::Line;
use core::ffi::CStr;
use core::fmt::Write;

pub(crate) fn misused(error: &UsageError<'_>) -> ! {
    complain(Status::Usage, format_args!("{error} (try --help)"))
}

/// A path as text on one line.
pub(crate) fn shown(path: &CStr) -> alloc::string::String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub(crate) fn complain(status: Status, message: core::fmt::Arguments<'_>) -> ! {
    let mut line = Line::<4608>::new();
    // Both are cut where they don't fit.
    let _ = line.write_str("loader: ");
    let _ = line.write_fmt(message);
    let _ = line.write_str("\n");
    line.to_stderr();
    ids::exit_all(status)
}

pub(crate) fn say(text: core::fmt::Arguments<'_>) -> ! {
    let mut page = Line::<4096>::new();
    let _ = page.write_fmt(text);
    match file::write_all(file::STDOUT, page.as_bytes()) {
        Ok(()) => ids::exit_all(Status::Success),
        Err(errno) => complain(Status::Internal, format_args!("standard output: {errno}")),
    }
}
