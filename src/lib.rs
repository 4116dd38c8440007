//! Runs unmodified x86-64 Linux programs in the loader's own process, every system call through one gate.
//!
//! The modules stand in rank order: a module may import those above it, never those below.
//! `tests/tidy.rs` holds the exact table and checks it.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

// The pure core: bytes and addresses in, data out. No system call, no `unsafe`.

/// Facts about Linux and x86-64: numbers, names, layouts.
#[forbid(unsafe_code)]
pub mod abi;
/// Addresses of the program, as numbers.
#[forbid(unsafe_code)]
pub mod addr;
/// An ELF file as a borrowed view.
#[forbid(unsafe_code)]
mod elf;
/// What `execve` makes of a file besides mapping it.
#[forbid(unsafe_code)]
mod exec;
/// Reading and writing single instructions.
#[forbid(unsafe_code)]
mod x86;
/// Finding system call instructions.
#[forbid(unsafe_code)]
mod find;
/// Deciding how to replace them.
#[forbid(unsafe_code)]
mod plan;
/// What a tool is.
#[forbid(unsafe_code)]
pub mod hook;
/// The built-in tools.
#[forbid(unsafe_code)]
mod tools;
/// The command line as a value.
#[forbid(unsafe_code)]
mod options;
/// What was intercepted, as records, text and JSON.
#[forbid(unsafe_code)]
mod report;

// The shell: system calls, mappings, and the code that runs while the program runs.

/// Raw system calls of the loader itself.
#[cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]
mod sys;
/// The bump allocator.
mod heap;
/// Puts a program into memory.
mod load;
/// What runs while the program runs.
#[cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]
mod runtime;
/// What an executable without libc must define itself.
#[cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]
mod start;
/// From a name to the program's first instruction.
mod launch;
/// The command line, acted on.
pub mod cli;

/// What [`entry!`] names in the crate that it makes an executable.
#[doc(hidden)]
pub mod executable {
    pub use crate::heap::Bump;
    pub use crate::load::Process;
    pub use crate::runtime::claim_pools;
    pub use crate::start::memory_asm::{compare, copy, copy_forward, fill, length};
    pub use crate::start::panic::{last_words, unwound};
    pub use crate::start::start_asm::start;
}

/// What the benches measure without a program.
#[doc(hidden)]
pub mod bench {
    pub use crate::elf::functions::Functions;
    pub use crate::elf::image::Image;
    pub use crate::find::search::{self, Found};
    pub use crate::find::site::{Site, Text, Verdict};
    pub use crate::plan::space::Space;
    pub use crate::plan::{Gate, Input, Plan, planner};
    pub use crate::x86::scan::SyscallBytes;
}
