//! The built-in tools, one file each. They use the same interface as anybody's own.
//!
//! Zone call, as `hook`: no allocation, no lock, no panic.

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

pub mod empty;
pub mod ledger;
pub mod summary;
pub mod trace;
