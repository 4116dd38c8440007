//! The program's memory as data: what the kernel says is mapped, reading it, writing code. Zone: call.
//!
//! The lowest room of the runtime: it knows `sys` and the pure rooms alone, and all others read and write by it.

pub(crate) mod code_writer;
pub(crate) mod file_pages;
pub(crate) mod maps;
pub(crate) mod read;
