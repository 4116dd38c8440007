//! Rings of requests that the kernel takes from memory: no call is made for them, so none is seen. Zone: call.

use crate::abi::call::Outcome;
use crate::abi::errno::Errno;
use crate::abi::sysno;
use crate::runtime::gate::policy;
use crate::runtime::gate::step::Step;
use crate::runtime::session::Session;
use crate::runtime::session::followed::Followed;
use core::sync::atomic::{AtomicU64, Ordering};

/// The calls of that interface.
pub(crate) const CALLS: [u32; 3] = [sysno::IO_URING_SETUP, sysno::IO_URING_ENTER, sysno::IO_URING_REGISTER];

/// Rings that the program has asked for. A fork keeps it.
static RINGS: AtomicU64 = AtomicU64::new(0);

/// How many rings the program has asked for.
#[must_use]
pub(crate) fn rings() -> u64 {
    RINGS.load(Ordering::Relaxed)
}

/// Before the program starts: where it is not to have rings, all of [`CALLS`] are hooked.
pub(crate) fn set_up(session: &Session) {
    if session.refuses_io_uring {
        CALLS.iter().for_each(|&nr| policy::hook(nr));
    }
}

/// Before one of [`CALLS`]: counts a new ring, or answers as a kernel without CONFIG_IO_URING does.
pub(crate) fn begin(followed: Followed<'_>) -> Step {
    let Followed { call, session, .. } = followed;
    if session.refuses_io_uring {
        return Step::Answer(Outcome::failure(Errno::ENOSYS));
    }
    if call.nr == sysno::IO_URING_SETUP {
        RINGS.fetch_add(1, Ordering::Relaxed);
    }
    Step::Pass
}
