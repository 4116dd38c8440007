//! What runs while the program runs: the gate, the hooks, and what keeps both true. Zone: call unless a file says
//! otherwise.
//!
//! Read [`dispatch`] first: it holds the whole story of one call.

pub mod altstacks;
pub mod base_asm;
pub mod bases;
pub mod block;
pub mod candidate;
pub mod claim;
pub mod delivery;
pub mod dispatch;
pub mod dispatching;
pub mod enter_asm;
pub mod exec;
pub mod fatal;
pub mod file_pages;
pub mod filter;
pub mod filter_asm;
pub mod frame;
pub mod gate_asm;
pub mod guest;
pub mod handlers;
pub mod identity;
pub mod int80;
pub mod io_uring;
pub mod landings;
pub mod leave_asm;
pub mod mappings;
pub mod maps;
pub mod modules;
pub mod natively;
pub mod net;
pub mod output;
pub mod patched;
pub mod pending;
pub mod processes;
pub mod program_file;
pub mod record;
pub mod report;
pub mod reserved;
pub mod room;
pub mod seccomp;
pub mod selector_asm;
pub mod served;
pub mod signals;
pub mod slot_code;
pub mod state;
pub mod stubs;
pub mod text;
pub mod trap;
pub mod trap_mask;
pub mod tree;
pub mod vdso;
pub mod windows;

use crate::abi::auxv::AuxKind;
use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::hook::interest::NUMBERS;
use crate::hook::tool::Newcomer;
use crate::load::Process;
use crate::runtime::state::{Frozen, STATE};
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
    record::grow();
    mem::name(gate_asm::pools(), c"loader:gate");
    let fsgsbase = process.aux(AuxKind::HWCAP2.0).unwrap_or(0) & FSGSBASE != 0;
    STATE.process.store(ids::id(), Ordering::Relaxed);
    STATE.is_root.store(frozen.is_root.into(), Ordering::Relaxed);
    STATE.fsgsbase.store(fsgsbase.into(), Ordering::Relaxed);
    STATE.stack_top.store(process.aux(AuxKind::EXECFN.0).unwrap_or(0), Ordering::Relaxed);
    STATE.own_inode.store(frozen.own.map_or(0, Identity::inode), Ordering::Relaxed);
    if !process.is_interpreter() {
        filter::set_up(); // else the kernel's links lead to the program itself
    }
    trap_mask::take_over(None, trap::SIGNAL);
    let interest = frozen.tools.interest();
    (0..NUMBERS).filter(|&nr| interest.contains(nr)).for_each(|nr| STATE.hook(nr));
    if interest.contains(NUMBERS) {
        (NUMBERS..state::POLICY_LEN as u32).for_each(|nr| STATE.hook(nr));
    }
    dispatch::SPECIAL.iter().for_each(|&nr| STATE.hook(nr));
    io_uring::set_up(frozen);
    output::set_up(frozen);
    report::set_up(frozen)?;
    STATE.freeze(frozen);
    if frozen.report.is_some() || frozen.common.is_some() && frozen.is_root {
        fatal::arm()?;
    }
    net::set_up(frozen);
    frozen.tools.started(Newcomer::Program(name.to_bytes()), &guest::Memory);
    Ok(())
}
