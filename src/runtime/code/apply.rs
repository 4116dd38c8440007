//! Carrying out the edits of a plan. Zone: load, and call with the patcher's lock held.

use crate::abi::errno::Errno;
use crate::addr::GuestAddr;
use crate::plan::live::Change;
use crate::plan::{Plan, TrapSite};
use crate::runtime::code::job::{Access, Job};
use crate::runtime::code::traps;
use crate::runtime::memory::code_writer;
use crate::runtime::signal::reserved;
use alloc::vec::Vec;

/// How far a plan has been carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// The text is as it was.
    Nothing,
    /// Some sites lead to their stubs, or may.
    Partly,
    /// All do.
    Whole,
}

/// Carries out the edits of a plan.
///
/// # Errors
///
/// The kernel's, if nothing has been changed.
pub(crate) fn change(job: &Job<'_, '_>, plan: &Plan) -> Result<Progress, Errno> {
    if let Access::Live { is_writable } = job.access {
        return change_live(plan, is_writable);
    }
    for (index, edit) in plan.edits.iter().enumerate() {
        // SAFETY: the text is as the job says; the edit lies inside it.
        match unsafe { job.access.write(edit.at.wrapping_add(job.shift), &edit.new) } {
            Ok(()) => {}
            Err(errno) if index == 0 => return Err(errno),
            Err(_) => return Ok(Progress::Partly),
        }
    }
    Ok(Progress::Whole)
}

/// As [`change`], while threads may execute what changes. Meanwhile more traps are known; behind them stands a jump, which
/// the handler finds where a trap was met just before.
fn change_live(plan: &Plan, is_writable: bool) -> Result<Progress, Errno> {
    let change = Change::of(plan, is_writable);
    let is_known = |at: GuestAddr| plan.traps.binary_search_by_key(&at, |trap| trap.at).is_ok();
    let mut more: Vec<TrapSite> = change.traps.iter().copied().filter(|trap| !is_known(trap.at)).collect();
    more.sort_unstable_by_key(|trap| trap.at);
    if !change.traps.is_empty() {
        reserved::reserve_trap()?;
    }
    if !traps::add_all(&more) {
        return Err(Errno::ENOMEM);
    }
    // SAFETY: the edits lie in the text, which is mapped so.
    if unsafe { code_writer::change_live(&change, is_writable) }.is_err() {
        return Ok(Progress::Partly);
    }
    traps::forget_all(&more);
    Ok(Progress::Whole)
}
