//! The calls that must be followed, one file for each family. Zone: call.

pub mod exec;
pub mod exec_check;
pub mod exit_filter;
pub mod exit_filter_asm;
pub mod io_uring;
pub mod mapped_program;
pub mod mappings;
pub mod moving;
pub mod output;
pub mod patching;
pub mod proc_exe;
pub mod protection;
pub mod seccomp;
pub mod split;
pub mod table;
pub mod thread_end;
