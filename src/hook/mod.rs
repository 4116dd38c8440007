//! What a tool is: the interface between the gate and those who watch, answer or change system calls.
//!
//! [`tool`] holds the two traits, [`interest`] says which calls a tool sees, [`chain`] runs several as one.
//! Zone call: this code runs on a program's thread in the middle of a system call, perhaps in a signal handler.
//! It allocates nothing, takes no lock and cannot panic.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod chain;
#[cfg(test)]
pub(crate) mod fake;
pub mod interest;
pub mod line;
pub mod render;
pub mod text;
pub mod tool;
