//! Facts about Linux and x86-64, and the only door to `linux-raw-sys`.

pub mod auxv;
pub mod bpf;
pub mod call;
pub mod errno;
pub mod futex;
pub mod map;
pub mod open;
mod packed;
pub mod process;
pub mod signal;
pub mod sysno;
