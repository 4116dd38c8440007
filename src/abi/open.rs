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
/// `O_PATH`.
pub const PATH: u32 = general::O_PATH;
/// The kind of file system that `statfs` reports for `/proc`.
pub const PROC_SUPER_MAGIC: i64 = general::PROC_SUPER_MAGIC as i64;
/// `X_OK`.
pub const X_OK: u64 = 1;
/// `AT_EMPTY_PATH`: an empty path names the descriptor itself.
pub const AT_EMPTY_PATH: u64 = general::AT_EMPTY_PATH as u64;
/// `AT_SYMLINK_NOFOLLOW`: a path that ends in a symbolic link names the link.
pub const AT_SYMLINK_NOFOLLOW: u64 = general::AT_SYMLINK_NOFOLLOW as u64;
/// `AT_EXECVE_CHECK`: `execveat` says whether it could, since 6.14.
pub const AT_EXECVE_CHECK: u64 = general::AT_EXECVE_CHECK as u64;
/// `O_NOCTTY`.
pub const NOCTTY: u32 = general::O_NOCTTY;
/// `O_NONBLOCK`.
pub const NONBLOCK: u32 = general::O_NONBLOCK;
/// `O_NOFOLLOW`.
pub const NOFOLLOW: u32 = general::O_NOFOLLOW;
/// `F_GETFD`.
pub const GETFD: u64 = general::F_GETFD as u64;
/// `F_SETFD`.
pub const SETFD: u64 = general::F_SETFD as u64;
/// `FD_CLOEXEC`.
pub const FD_CLOEXEC: u64 = general::FD_CLOEXEC as u64;
/// `LOCK_UN` of `flock`.
pub const LOCK_UN: u64 = general::LOCK_UN as u64;
/// `LOCK_EX` of `flock`.
pub const LOCK_EX: u64 = general::LOCK_EX as u64;
/// `PATH_MAX`: bytes of the longest path, its zero byte included (include/uapi/linux/limits.h).
pub const PATH_MAX: usize = general::PATH_MAX as usize;
/// `S_ISUID`: runs with the owner's user id.
pub const S_ISUID: u32 = general::S_ISUID;
/// The set-group-id bit.
pub const S_ISGID: u32 = general::S_ISGID;
/// `S_ISGID` and `S_IXGRP`: together, runs with the file's group id (fs/exec.c, `bprm_fill_uid`).
pub const S_ISGID_EXECUTABLE: u32 = general::S_ISGID | general::S_IXGRP;
/// `ST_NOSUID` of `statfs`: ids of files on this mount are not taken over (include/linux/statfs.h).
pub const ST_NOSUID: u64 = 2;
pub use linux_raw_sys::general::statfs64 as StatFs;
