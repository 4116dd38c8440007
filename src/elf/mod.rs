//! ELF files as borrowed views, what `execve` makes of their headers, and the initial stack of a program.
//!
//! Nothing here maps, opens or runs anything: bytes and addresses in, facts out. The models are
//! `load_elf_binary` and `create_elf_tables` (Linux fs/binfmt_elf.c), `bprm` (fs/exec.c) and `load_script`
//! (fs/binfmt_script.c): what they accept is accepted and what they refuse is refused, with the same error
//! number. The only door to goblin.

pub mod eh_frame;
mod error;
pub mod functions;
pub mod gopclntab;
mod header;
pub mod image;
pub mod interp;
pub mod mapped;
pub mod needed;
#[cfg(test)]
mod sample;
pub mod script;
mod section;
mod segment;
pub mod stack;
pub mod symbol;

pub use error::{Error, Role};
