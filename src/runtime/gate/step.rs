//! How a call goes on after its enter hooks. Zone: call.

use crate::abi::call::Outcome;
use crate::runtime::gate::pending::{MaskPair, Returns};

/// How a call goes on after its enter hooks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// To the kernel.
    Pass,
    /// To the kernel, and back here if the filter says so.
    Filter,
    /// To the kernel, never to come back: nothing may wait for it.
    Leave,
    /// To the kernel and back here.
    PassThenExit(Returns),
    /// So, and the kernel is told of another mask than the program asks for.
    PassWithMask(MaskPair),
    /// Back to the program.
    Answer(Outcome),
}
