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

pub(crate) mod empty;
pub(crate) mod ledger;
pub(crate) mod summary;
pub(crate) mod trace;
