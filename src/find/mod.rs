//! Finding system call instructions. Pure: bytes and addresses in, verdicts out.
//!
//! [`search`] decides about each byte pair that could be a call; [`executed`] decides about one that was seen to run.

mod anchor;
pub(crate) mod executed;
mod follow;
mod island;
mod number;
pub mod search;
pub(crate) mod site;
mod stretch;
mod trace;
