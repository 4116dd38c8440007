//! ELF files as borrowed views, and what `execve` makes of their headers.
//!
//! Nothing here maps, opens or runs anything: bytes and addresses in, facts out. The model is `load_elf_binary`
//! (Linux fs/binfmt_elf.c): what it accepts is accepted and what it refuses is refused, with the same error number.
//! The only door to goblin.

pub(crate) mod eh_frame;
mod error;
pub(crate) mod functions;
pub(crate) mod gopclntab;
mod header;
pub(crate) mod image;
pub(crate) mod interp_note;
pub(crate) mod mapped;
pub(crate) mod needed;
#[cfg(test)]
pub(crate) mod sample;
mod section;
mod segment;
pub(crate) mod symbol;

pub(crate) use error::{Error, Role};
