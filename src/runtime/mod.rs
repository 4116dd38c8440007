//! What runs while the program runs: the gate, the hooks, and what keeps both true. Zone: call unless a file says
//! otherwise.
//!
//! Read [`dispatch`] first: it holds the whole story of one call. Signals come in by [`delivery`]. Below these two stand the
//! rooms, in rank order; each uses those above it in this list, and none below it:
//!
//! - [`memory`]: the program's memory as data; what the kernel says is mapped, reading it, writing code;
//! - [`gate`]: the crossing; stubs and slots, blocks, registers saved and restored;
//! - [`tasks`]: who runs in this memory;
//! - [`session`]: what was decided before the run, what its processes share, where the tools' words go;
//! - [`signal`]: the program's actions, masks and frames, and the signals that the loader needs itself;
//! - [`code`]: the program's code as it is patched;
//! - [`backstop`]: calls that come from elsewhere than the gate;
//! - [`calls`]: the calls that must be followed, by one table.
//!
//! Each piece of state is a private static of the file that owns it; `tests/tidy.rs` lists all of them with what a fork does to
//! each. A fork's child puts its own in order in one place, `begin_process` in `calls/split.rs`.
//!
//! # Lock order
//!
//! A thread that holds one of these takes only those that stand below it, and takes any of them with all signals blocked:
//!
//! 1. the patcher's ([`code::patcher::lock`]): what is patched, stubs, the table of traps, the heap once the program runs;
//! 2. that of a reserved signal ([`signal::reserved`]): the program's action for it, also taken by the handler;
//! 3. that of the gate's pages ([`gate::pages`]): slots and handlers' entries that are being written;
//! 4. the heap's own ([`crate::heap`]), held for one allocation.
//!
//! The first three survive the death of their holder, since any process that shares this memory can be killed anywhere. Tables
//! that a handler reads have no lock: their entries are published by one store.

pub(crate) mod memory;
pub(crate) mod gate;
pub(crate) mod tasks;
pub(crate) mod session;
pub(crate) mod signal;
pub(crate) mod code;
pub(crate) mod backstop;
pub(crate) mod calls;
pub(crate) mod dispatch;
mod arrival;
pub(crate) mod delivery;
mod interrupted;
pub(crate) mod reserved_delivery;
pub(crate) mod report;

use crate::abi::auxv::AuxKind;
use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::hook::interest::NUMBERS;
use crate::hook::tool::Newcomer;
use crate::load::Process;
use crate::runtime::backstop::sud;
use crate::runtime::calls::{exit_filter, io_uring, table};
use crate::runtime::code::{notes, reach};
use crate::runtime::gate::{claim, gate_asm, policy, pool, slots};
use crate::runtime::session::{Session, guest, last_words};
use crate::runtime::signal::{fatal, reserved, reserved_mask};
use crate::sys::file::Identity;
use crate::sys::mem;
use core::ffi::CStr;

/// Maps the gate's pools if the kernel has not. Before anything else is mapped, which could come to lie there. Zone: load.
///
/// Until Linux 6.7 only the last segment of an interpreter gets what it has beyond its file (fs/binfmt_elf.c,
/// `load_elf_interp`), and the pools are not in the last.
pub fn claim_pools() {
    let pools = gate_asm::pools();
    // Where they are mapped this fails; where something else lies in their place, `set_up` does.
    let _ = mem::map_anonymous(mem::Place::Free(pools.start), pools.len(), Protection::READ_EXECUTE);
}

/// Makes the runtime ready for the first hooked call of the program called `name`: blocks, slots, the policy. Zone: load.
///
/// # Errors
///
/// The kernel's, when there is no memory.
pub(crate) fn set_up(process: &Process, session: &'static Session, name: &CStr) -> Result<(), Errno> {
    const FSGSBASE: u64 = 1 << 1;
    // The kernel maps what an executable segment has beyond its file writable as well (mm/vma.c, `vm_brk_flags`).
    mem::protect(gate_asm::pools(), Protection::READ_EXECUTE)?;
    claim::set_up();
    pool::set_up()?;
    slots::grow();
    mem::name(gate_asm::pools(), c"loader:gate");
    let fsgsbase = process.aux(AuxKind::HWCAP2.0).unwrap_or(0) & FSGSBASE != 0;
    tasks::set_up(session.is_root);
    pool::allow_fsgsbase(fsgsbase);
    reach::set_stack_top(process.aux(AuxKind::EXECFN.0).unwrap_or(0));
    exit_filter::set_own_inode(session.own.map_or(0, Identity::inode));
    reserved_mask::take_over(None, reserved::TRAP_SIGNAL);
    let interest = session.tools.interest();
    (0..NUMBERS).filter(|&nr| interest.contains(nr)).for_each(policy::hook);
    if interest.contains(NUMBERS) {
        (NUMBERS..policy::POLICY_LEN as u32).for_each(policy::hook);
    }
    table::set_up(!process.is_interpreter());
    io_uring::set_up(session);
    last_words::set_up(session);
    notes::set_up(session)?;
    session::begin(session);
    if session.report.is_some() || session.common.is_some() && session.is_root {
        fatal::arm()?;
    }
    sud::set_up(session);
    session.tools.started(Newcomer::Program(name.to_bytes()), &guest::Memory);
    Ok(())
}
