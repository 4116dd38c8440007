//! The program's memory as data: what the kernel says is mapped, reading it, writing code. Zone: call.

pub(crate) mod code_writer;
pub(crate) mod file_pages;
pub(crate) mod maps;
pub(crate) mod read;
