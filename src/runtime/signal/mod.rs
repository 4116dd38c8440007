//! The program's signal actions, masks and frames, and the signals that the loader needs itself. Zone: call.
//!
//! Above `session`; `code` and `backstop` reserve signals here. Where a signal finds the program is `delivery`'s, at the top.

pub(crate) mod action;
pub(crate) mod fatal;
pub(crate) mod frame;
pub(crate) mod handlers;
pub(crate) mod reservable;
pub(crate) mod reserved;
pub(crate) mod reserved_mask;
