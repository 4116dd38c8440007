//! Rings of requests that the kernel takes from memory: no call is made for them, so none is seen. Zone: call.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::sysno;
use crate::runtime::gate::step::Step;
use crate::runtime::session::Frozen;
use crate::runtime::state::STATE;
use crate::sys::counter::count;

/// The calls of that interface.
pub const CALLS: [u32; 3] = [sysno::IO_URING_SETUP, sysno::IO_URING_ENTER, sysno::IO_URING_REGISTER];

/// Before the program starts: where it is not to have rings, all of [`CALLS`] are hooked.
pub fn set_up(frozen: &Frozen) {
    if frozen.refuses_io_uring {
        CALLS.iter().for_each(|&nr| STATE.hook(nr));
    }
}

/// Before one of [`CALLS`]: counts a new ring, or answers as a kernel without CONFIG_IO_URING does.
pub fn begin(call: &Call, frozen: &Frozen) -> Step {
    if frozen.refuses_io_uring {
        return Step::Answer(Outcome::failure(Errno::ENOSYS));
    }
    if call.nr == sysno::IO_URING_SETUP {
        count(&STATE.rings);
    }
    Step::Pass
}
