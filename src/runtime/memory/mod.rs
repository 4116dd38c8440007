//! The program's memory as data: what the kernel says is mapped, reading it, writing code. Zone: call.

pub mod code_writer;
pub mod file_pages;
pub mod maps;
pub mod read;
