//! Who may write code into fresh pages of the gate: slots, and the entries of handlers. Zone: call.
//!
//! Taken with all signals blocked, and after the patcher's lock where that is held too.

use crate::sys::lock::{RobustGuard, RobustLock};

/// Guards pages in which no thread can be yet. A fork breaks it.
static PAGES: RobustLock<()> = RobustLock::new(());

/// Takes the lock. If its last holder died while it wrote, its page has not been put to use.
pub(crate) fn lock() -> RobustGuard<'static, ()> {
    PAGES.lock()
}

/// In a forked child: takes the lock away from a thread that has not come along.
///
/// # Safety
///
/// Whoever may hold it will never run again, and nobody waits.
pub(crate) unsafe fn break_lock() {
    // SAFETY: as the caller vouches.
    unsafe { PAGES.force_unlock() };
}
