//! What `execve` makes of a file besides mapping it: `#!` lines, and the initial stack of a program. Pure.
//!
//! The models are `create_elf_tables` (Linux fs/binfmt_elf.c), `bprm` (fs/exec.c) and `load_script`
//! (fs/binfmt_script.c): what they accept is accepted and what they refuse is refused, with the same error number.

pub(crate) mod script;
pub(crate) mod stack;
