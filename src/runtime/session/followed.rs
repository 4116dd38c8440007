//! A call that is followed, as its handlers get it: before it is made, and after. Zone: call.

use crate::abi::call::{Call, Outcome};
use crate::runtime::gate::block::Block;
use crate::runtime::gate::pending::Collected;
use crate::runtime::session::Session;

/// A call that is about to be made.
pub(crate) struct Followed<'a> {
    /// The block that its hook runs on, with the program's registers.
    pub block: &'a mut Block,
    /// The call as the tools have left it.
    pub call: &'a Call,
    /// What was decided before the program started.
    pub session: &'static Session,
}

/// A call that has returned to the thread that made it.
#[derive(Debug)]
pub(crate) struct Returned<'a> {
    /// The block that its hook runs on.
    pub block: &'a mut Block,
    /// What it has left behind.
    pub collected: &'a Collected,
    /// How it went.
    pub outcome: Outcome,
}

impl Returned<'_> {
    /// The call as the kernel was asked.
    #[must_use]
    pub(crate) const fn call(&self) -> &Call {
        &self.collected.pending.call
    }

    /// Whether the kernel has refused it.
    #[must_use]
    pub(crate) fn has_failed(&self) -> bool {
        self.outcome.errno().is_some()
    }
}
