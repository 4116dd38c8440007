//! The signals that the loader may need for itself. Zone: call.

use crate::abi::signal::Signal;

/// The signals that can be reserved.
pub(crate) const RESERVABLE: [Signal; 2] = [Signal::SIGILL, Signal::SIGSYS];

/// Where a signal stands in [`RESERVABLE`], if it does.
#[must_use]
pub(crate) fn place_of(signal: Signal) -> Option<usize> {
    RESERVABLE.iter().position(|reservable| *reservable == signal)
}
