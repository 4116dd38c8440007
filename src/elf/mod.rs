//! ELF files as borrowed views, and what `execve` makes of their headers.
//!
//! Nothing here maps, opens or runs anything: bytes and addresses in, facts out. The model is `load_elf_binary`
//! (Linux fs/binfmt_elf.c): what it accepts is accepted and what it refuses is refused, with the same error number.
//! The only door to goblin.

pub mod eh_frame;
mod error;
pub mod functions;
pub mod gopclntab;
mod header;
pub mod image;
pub mod interp_note;
pub mod mapped;
pub mod needed;
#[cfg(test)]
pub(crate) mod sample;
mod section;
mod segment;
pub mod symbol;

pub use error::{Error, Role};
