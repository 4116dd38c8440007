//! Opening and asking about files.

use linux_raw_sys::general;

pub use linux_raw_sys::general::stat as Stat;

/// `O_RDONLY`.
pub const RDONLY: u32 = general::O_RDONLY;
/// `O_RDWR`.
pub const RDWR: u32 = general::O_RDWR;
/// `O_WRONLY`.
pub const WRONLY: u32 = general::O_WRONLY;
/// `O_APPEND`.
pub const APPEND: u32 = general::O_APPEND;
/// `O_CREAT`.
pub const CREAT: u32 = general::O_CREAT;
/// `O_TRUNC`.
pub const TRUNC: u32 = general::O_TRUNC;
/// `O_CLOEXEC`.
pub const CLOEXEC: u32 = general::O_CLOEXEC;
/// `AT_FDCWD` as an argument register.
pub const AT_FDCWD: u64 = general::AT_FDCWD as i64 as u64;
/// `AT_EACCESS`: check with the effective ids.
pub const AT_EACCESS: u64 = general::AT_EACCESS as u64;
/// `X_OK`.
pub const X_OK: u64 = 1;
