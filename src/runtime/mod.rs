//! What runs while the program runs: the gate, the hooks, and what keeps both true. Zone: call unless a file says
//! otherwise.
//!
//! Read [`dispatch`] first: it holds the whole story of one call.

pub mod memory;
pub mod gate;
pub mod tasks;
pub mod session;
pub mod signal;
pub mod code;
pub mod backstop;
pub mod calls;
pub mod dispatch;
pub mod delivery;
pub mod reserved_delivery;
pub mod report;
pub mod state;

use crate::abi::auxv::AuxKind;
use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::hook::interest::NUMBERS;
use crate::hook::tool::Newcomer;
use crate::load::Process;
use crate::runtime::backstop::sud;
use crate::runtime::calls::{exit_filter, io_uring};
use crate::runtime::code::notes;
use crate::runtime::gate::{block, gate_asm, slots};
use crate::runtime::session::{Frozen, guest, output};
use crate::runtime::signal::{fatal, reserved, reserved_mask};
use crate::runtime::state::STATE;
use crate::sys::file::Identity;
use crate::sys::{ids, mem};
use core::ffi::CStr;
use core::sync::atomic::Ordering;

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
pub fn set_up(process: &Process, frozen: &'static Frozen, name: &CStr) -> Result<(), Errno> {
    const FSGSBASE: u64 = 1 << 1;
    // The kernel maps what an executable segment has beyond its file writable as well (mm/vma.c, `vm_brk_flags`).
    mem::protect(gate_asm::pools(), Protection::READ_EXECUTE)?;
    // A block is free while its number is smaller, as the zeros of fresh memory are.
    STATE.generation.store(1, Ordering::Relaxed);
    STATE.vforks.store(1, Ordering::Relaxed);
    block::set_up()?;
    slots::grow();
    mem::name(gate_asm::pools(), c"loader:gate");
    let fsgsbase = process.aux(AuxKind::HWCAP2.0).unwrap_or(0) & FSGSBASE != 0;
    STATE.process.store(ids::id(), Ordering::Relaxed);
    STATE.is_root.store(frozen.is_root.into(), Ordering::Relaxed);
    STATE.fsgsbase.store(fsgsbase.into(), Ordering::Relaxed);
    STATE.stack_top.store(process.aux(AuxKind::EXECFN.0).unwrap_or(0), Ordering::Relaxed);
    STATE.own_inode.store(frozen.own.map_or(0, Identity::inode), Ordering::Relaxed);
    if !process.is_interpreter() {
        exit_filter::set_up(); // else the kernel's links lead to the program itself
    }
    reserved_mask::take_over(None, reserved::TRAP_SIGNAL);
    let interest = frozen.tools.interest();
    (0..NUMBERS).filter(|&nr| interest.contains(nr)).for_each(|nr| STATE.hook(nr));
    if interest.contains(NUMBERS) {
        (NUMBERS..state::POLICY_LEN as u32).for_each(|nr| STATE.hook(nr));
    }
    dispatch::SPECIAL.iter().for_each(|&nr| STATE.hook(nr));
    io_uring::set_up(frozen);
    output::set_up(frozen);
    notes::set_up(frozen)?;
    STATE.freeze(frozen);
    if frozen.report.is_some() || frozen.common.is_some() && frozen.is_root {
        fatal::arm()?;
    }
    sud::set_up(frozen);
    frozen.tools.started(Newcomer::Program(name.to_bytes()), &guest::Memory);
    Ok(())
}
