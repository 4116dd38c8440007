//! The calls that must be followed, one file for each family. Zone: call.
//!
//! The highest room: [`table`] has a row for each call, and `dispatch` above runs what the row names.

pub(crate) mod exec;
pub(crate) mod exec_check;
pub(crate) mod exit_filter;
pub(crate) mod exit_filter_asm;
pub(crate) mod io_uring;
pub(crate) mod mapped_program;
pub(crate) mod mappings;
pub(crate) mod moving;
pub(crate) mod output;
pub(crate) mod patching;
pub(crate) mod proc_exe;
pub(crate) mod protection;
pub(crate) mod seccomp;
pub(crate) mod split;
pub(crate) mod table;
pub(crate) mod thread_end;
