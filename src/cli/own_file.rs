//! Where the loader's own file is. Zone: load.

use crate::load::Process;
use crate::sys::file;
use alloc::boxed::Box;
use alloc::ffi::CString;
use core::ffi::CStr;

/// A string for as long as the process.
pub(crate) fn kept(text: CString) -> &'static CStr {
    Box::leak(text.into_boxed_c_str())
}

/// The loader's own file; without `/proc`, by the name that it was started with.
pub(crate) fn own_file(process: &Process) -> &'static CStr {
    let mut buffer = [0_u8; 4096];
    let path = file::read_link(c"/proc/self/exe", &mut buffer).ok().and_then(|path| CString::new(path).ok());
    kept(path.unwrap_or_else(|| process.path().into()))
}
