//! The program's signal actions, masks and frames, and the signals that the loader needs itself. Zone: call.

pub mod action;
pub mod fatal;
pub mod frame;
pub mod handlers;
pub mod reservable;
pub mod reserved;
pub mod reserved_mask;
