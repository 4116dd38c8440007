//! Facts about Linux and x86-64, and the only door to `linux-raw-sys`.

pub mod call;
pub mod errno;
