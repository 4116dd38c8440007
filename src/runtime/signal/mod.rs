//! The program's signal actions, masks and frames, and the signals that the loader needs itself. Zone: call.

pub(crate) mod action;
pub(crate) mod fatal;
pub(crate) mod frame;
pub(crate) mod handlers;
pub(crate) mod reservable;
pub(crate) mod reserved;
pub(crate) mod reserved_mask;
