//! Futexes with priority inheritance: the kernel's side of `sys::lock`.

use linux_raw_sys::general;

/// Takes the futex, or sleeps until its holder gives it back or dies; memory of this process only.
pub const LOCK_PI_PRIVATE: u64 = (general::FUTEX_LOCK_PI | general::FUTEX_PRIVATE_FLAG) as u64;
/// Gives it to whoever sleeps.
pub const UNLOCK_PI_PRIVATE: u64 = (general::FUTEX_UNLOCK_PI | general::FUTEX_PRIVATE_FLAG) as u64;
/// In the futex word: its last holder died.
pub const OWNER_DIED: u32 = general::FUTEX_OWNER_DIED;
