//! Last words: one line on stderr and a reserved exit status. Zone: call.

use crate::sys::ids;
use crate::sys::line::Line;
use core::fmt::Write;
use core::panic::PanicInfo;

/// Says where the loader itself went wrong, then ends every thread with [`ids::Status::Internal`].
pub fn last_words(info: &PanicInfo<'_>) -> ! {
    let mut line = Line::<512>::new();
    // A line that does not fit is cut; there is nothing better to do with the error.
    let _ = match info.location() {
        Some(at) => {
            writeln!(line, "loader: internal error at {}:{}: {}", at.file(), at.line(), info.message())
        }
        None => writeln!(line, "loader: internal error: {}", info.message()),
    };
    line.to_stderr();
    ids::exit_all(ids::Status::Internal)
}

/// Where unwinding would start, if there were any.
pub fn unwound() -> ! {
    ids::exit_all(ids::Status::Internal)
}
