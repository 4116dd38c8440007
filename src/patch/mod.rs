//! Finding system call instructions and deciding how to replace them. Pure: bytes and addresses in, data out.
//!
//! [`find`] proves which byte pairs are instructions, [`plan`] chooses a [`tactic`] for each and says which bytes
//! to write where. Nothing here writes them.

mod anchor;
pub mod check;
mod draft;
pub mod executed;
pub mod find;
mod lapping;
pub mod live;
mod number;
mod padding;
pub mod plan;
pub mod relay;
pub mod site;
pub mod space;
pub mod stub;
pub mod tactic;
mod trace;
pub mod undo;
